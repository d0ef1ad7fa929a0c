"""The figures of a comparison over a grid."""
