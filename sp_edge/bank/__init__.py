"""The bank: the classes that a device was taught."""
