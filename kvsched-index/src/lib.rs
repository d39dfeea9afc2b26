//! KV-cache events to residency to exact prefix matches.
