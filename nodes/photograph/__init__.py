"""Photographs whose damage nobody knows: found, measured and removed."""
