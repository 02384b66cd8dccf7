"""Choices made from bytes: any bytes are choices, and none are too few."""


class Take:
  """Takes numbers and pieces off the front of some bytes."""

  def __init__(self, data):
    self._data = data

  def piece(self, length):
    """The next bytes, fewer where they end."""
    piece, self._data = self._data[:length], self._data[length:]
    return piece

  def rest(self):
    return self.piece(len(self._data))

  def number(self, below):
    """0 to `below` - 1."""
    width = max(1, ((below - 1).bit_length() + 7) // 8)
    return int.from_bytes(self.piece(width), 'little') % below

  def choice(self, options):
    return options[self.number(len(options))]
