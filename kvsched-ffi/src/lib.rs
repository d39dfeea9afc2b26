//! C ABI of kvsched.
