use crate::SchemeError;
use std::{fmt, str::FromStr};

/// A release of vLLM, which decides what enters its block hashes.
///
/// Reads `0.9.2`, `v0.11.0`, `0.33`, and pre-releases such as `0.19.0rc1` or
/// `0.30.0.dev5+g1234` as the release they lead to. Known are 0.9.0 to 0.33; a later version
/// **acts as 0.33** until its hashes are known to differ.
///
/// ```
/// use kvsched_hash::VllmVersion;
/// let version: VllmVersion = "0.10.2rc1".parse()?;
/// assert_eq!(version, VllmVersion::new(0, 10, 2)?);
/// assert!("0.8.5".parse::<VllmVersion>().is_err()); // before the first known one
/// # Ok::<(), kvsched_hash::SchemeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VllmVersion {
    major: u16,
    minor: u16,
    patch: u16,
}

impl VllmVersion {
    /// The newest version whose hashes were compared byte by byte.
    pub const LATEST: Self = Self { major: 0, minor: 33, patch: 0 };

    /// Version `major.minor.patch`.
    ///
    /// # Errors
    ///
    /// [`SchemeError::VersionTooOld`] before 0.9.0.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Result<Self, SchemeError> {
        let version = Self { major, minor, patch };
        if major == 0 && minor < 9 {
            return Err(SchemeError::VersionTooOld { version });
        }
        Ok(version)
    }

    pub(crate) const fn at_least(self, minor: u16, patch: u16) -> bool {
        self.major > 0 || self.minor > minor || (self.minor == minor && self.patch >= patch)
    }
}

impl FromStr for VllmVersion {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Self, SchemeError> {
        let syntax = || SchemeError::VersionSyntax { text: text.chars().take(64).collect() };
        let mut numbers = [0; 3];
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        for (i, number) in numbers.iter_mut().enumerate() {
            // A patch level may be missing, or be followed by a pre-release's letters.
            let Some(part) = parts.next() else {
                if i == 2 { break } else { return Err(syntax()) }
            };
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let (digits, rest) = part.split_at(end);
            let known = ["rc", "a", "b", "dev", "post", "+"];
            if !(rest.is_empty() || i > 0 && known.iter().any(|k| rest.starts_with(k))) {
                return Err(syntax());
            }
            *number = digits.parse().map_err(|_| syntax())?;
            if !rest.is_empty() {
                break;
            }
        }
        Self::new(numbers[0], numbers[1], numbers[2])
    }
}

impl fmt::Display for VllmVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_engines_call_themselves() {
        for (text, want) in [
            ("0.9.0", (0, 9, 0)),
            ("v0.11.1", (0, 11, 1)),
            ("0.33", (0, 33, 0)),
            ("0.19.0rc1", (0, 19, 0)),
            ("0.30.1.dev5+g12ab", (0, 30, 1)),
            ("0.12.0+cu130", (0, 12, 0)),
            ("0.14rc1", (0, 14, 0)),
            ("1.2.3", (1, 2, 3)),
        ] {
            let want = VllmVersion { major: want.0, minor: want.1, patch: want.2 };
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        for text in ["", "0", "x.y.z", "0.9.x", "0..1", "0.-1.0", "0.99999.0", "0.9.2 ", "rc1.2"] {
            let got = text.parse::<VllmVersion>();
            assert!(matches!(got, Err(SchemeError::VersionSyntax { .. })), "{text:?} gave {got:?}");
        }
    }

    #[test]
    fn order_is_by_number_not_by_text() {
        let parse = |t: &str| t.parse::<VllmVersion>().unwrap();
        assert!(parse("0.9.2") < parse("0.10.0"));
        assert!(parse("1.0.0").at_least(33, 0));
        assert!(!parse("0.11.0").at_least(11, 1));
    }
}
