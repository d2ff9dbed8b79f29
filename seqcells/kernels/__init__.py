"""Fused recurrences: tensors in, tensors out, no modules."""
