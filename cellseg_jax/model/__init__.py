"""The network: GoogLeNet as a fully convolutional network, and its heads."""
