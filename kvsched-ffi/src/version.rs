use std::ffi::{CStr, c_char};

/// Which binary interface this is. A library with another number cannot be called through this
/// header.
pub const KVSCHED_ABI: u32 = 1;
/// The release's major number.
pub const KVSCHED_VERSION_MAJOR: u32 = 0;
/// The release's minor number.
pub const KVSCHED_VERSION_MINOR: u32 = 1;
/// The release's patch number.
pub const KVSCHED_VERSION_PATCH: u32 = 0;

/// The binary interface of the library that was linked: `KVSCHED_ABI` of its own header.
///
/// Any thread may call at any time.
#[unsafe(no_mangle)]
pub extern "C" fn kvsched_abi() -> u32 {
    KVSCHED_ABI
}

/// Does nothing. That it exists is the point: who refers to it cannot be linked with a library
/// of another binary interface, which has a symbol of another number.
#[unsafe(no_mangle)]
pub extern "C" fn kvsched_abi_1() {}

/// The release of the library that was linked, as "0.1.0". The text is static.
///
/// Any thread may call at any time.
#[unsafe(no_mangle)]
pub extern "C" fn kvsched_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
