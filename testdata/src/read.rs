use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Why a data file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The text is not of the format.
    #[error("{}, line {line}, column {column}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 for an empty line.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// The text is of the format, but cannot mean anything.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
}

impl DataError {
    /// What `error` says of the line `first` of `path` or, for text of several lines, of the line
    /// that many further on.
    pub(crate) fn format(path: &Path, first: usize, error: &serde_json::Error) -> Self {
        // serde_json ends its messages with the place, counted from the text it was given.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string();
        Self::Format {
            path: path.to_owned(),
            line: first - 1 + error.line().max(1),
            column: error.column(),
            message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
        }
    }
}

/// The kinds of vector file, told apart by the beginning of their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// `block_hashes*.json`
    BlockHashes,
    /// `block_hashes_legacy*.json`
    LegacyBlockHashes,
    /// `kv_events*.json`
    KvEvents,
    /// `engine_capture*.json`
    EngineCapture,
}

impl Vectors {
    fn of_name(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".json")?;
        // The longer of two names with one beginning comes first.
        [
            ("block_hashes_legacy", Self::LegacyBlockHashes),
            ("block_hashes", Self::BlockHashes),
            ("kv_events", Self::KvEvents),
            ("engine_capture", Self::EngineCapture),
        ]
        .into_iter()
        .find_map(|(start, kind)| stem.starts_with(start).then_some(kind))
    }
}

/// All files of one kind: the repository's own and, when the environment variable
/// `KVSCHED_VECTORS_DIR` names a folder, those there.
///
/// # Errors
///
/// If a folder cannot be listed: a wrong `KVSCHED_VECTORS_DIR` must not look like a pass.
pub fn vector_files(kind: Vectors) -> Result<Vec<PathBuf>, DataError> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let more = std::env::var_os("KVSCHED_VECTORS_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut files = Vec::new();
    for folder in std::iter::once(own).chain(more) {
        let io = |source| DataError::Io { path: folder.clone(), source };
        let mut here = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if Vectors::of_name(name) == Some(kind) {
                here.push(path);
            }
        }
        here.sort();
        files.extend(here);
    }
    Ok(files)
}

pub(crate) fn text(path: &Path) -> Result<String, DataError> {
    std::fs::read_to_string(path).map_err(|source| DataError::Io { path: path.to_owned(), source })
}

pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    serde_json::from_str(&text(path)?).map_err(|e| DataError::format(path, 1, &e))
}
