//! Prompt tokens to KV-cache block hashes, byte-exact with the engines.
