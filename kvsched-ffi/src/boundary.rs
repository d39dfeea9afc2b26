use crate::memory::Out;
use crate::status::{Error, Failure, Status};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of a call: a panic ends here, and what failed is told in words.
///
/// # Safety
///
/// `error` is NULL or the caller's to write.
pub(crate) unsafe fn boundary(
    error: *mut Error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> Status {
    // Whatever a panic leaves half done is behind a lock, which it poisons, or is the caller's
    // memory, which is written last.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let failure = Failure::new(Status::Panic, text.unwrap_or("panic without a text"));
            // Dropping what was thrown could throw again.
            std::mem::forget(payload);
            failure
        }
    };
    // SAFETY: the caller's promise.
    if let Ok(Some(out)) = unsafe { Out::optional("error", error) } {
        out.write(failure.error());
    }
    failure.status
}

#[cfg(test)]
mod tests {
    use super::boundary;
    use crate::status::{Error, KVSCHED_ERROR_TEXT, Status};
    use std::ffi::CStr;

    #[test]
    fn a_panic_becomes_a_status_with_its_text() {
        let mut error = Error { len: 0, text: [0; KVSCHED_ERROR_TEXT] };
        // SAFETY: `error` is ours.
        let status = unsafe { boundary(&raw mut error, || panic!("block {} is lost", 7)) };
        assert_eq!(status, Status::Panic);
        // SAFETY: a call that failed leaves a NUL at the end of the text.
        let text = unsafe { CStr::from_ptr(error.text.as_ptr()) };
        assert_eq!(text.to_str(), Ok("block 7 is lost"));
        assert_eq!(error.len, 15);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut error = Error { len: 0, text: [0; KVSCHED_ERROR_TEXT] };
        // SAFETY: `error` is ours.
        let status = unsafe { boundary(&raw mut error, || panic!("{}", "é".repeat(400))) };
        assert_eq!(status, Status::Panic);
        assert_eq!(error.len, KVSCHED_ERROR_TEXT - 2); // 503 is odd, and é has two bytes
        assert_eq!(error.text[error.len], 0);
    }

    #[test]
    fn without_a_place_for_the_text_the_status_remains() {
        // SAFETY: NULL is allowed.
        let status = unsafe { boundary(std::ptr::null_mut(), || panic!("nobody reads this")) };
        assert_eq!(status, Status::Panic);
    }
}
