"""Pictures to MobileNetV2 features and principal components, on Amazon EMR or on this machine."""

__version__ = "0.1.0"
