"""Labelled data sets: finding, checking, preparing and sampling images."""
