"""Encoders and decoders shared by the flat families."""
