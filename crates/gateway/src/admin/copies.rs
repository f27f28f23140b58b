//! The store as others keep it: signed heads, copies, files of old entries.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use store::{Op, Store, StoreError};

use super::office::{Office, OfficeError, usage};
use crate::heads;

impl Office<'_> {
    /// The newest head, or a new one where the journal has grown since (LED-41).
    pub(super) async fn signed_head(&self) -> Result<Value, OfficeError> {
        self.store().commit(Op::Flush).await?;
        let size = self.store().reader().unsigned_head(0)?.size;
        let key = &self.keys().receipt;
        Ok(heads::shown(&heads::covering(self.store(), key, size).await?, key))
    }

    /// Copies what is durable while the store is used. Whoever has seen an answer finds its charge in the copy.
    pub(super) async fn backup(&self, to: &str) -> Result<Value, OfficeError> {
        let to = absolute(to)?;
        self.store().commit(Op::Flush).await?;
        let (file, store) = (to.clone(), self.store().clone());
        blocking(move || store.backup(&file)).await?;
        Ok(json!({"backup": to.display().to_string()}))
    }

    /// Moves old entries into a file, with a signed head over them first: what leaves the store is vouched for.
    pub(super) async fn roll(&self, through_lsn: u64, folder: &str) -> Result<Value, OfficeError> {
        let folder = absolute(folder)?;
        self.signed_head().await?;
        let store: Store = self.store().clone();
        let rolled = blocking(move || store.roll(through_lsn, &folder)).await?;
        Ok(match rolled {
            Some(rolled) => json!({
                "rolled": rolled.last_lsn - rolled.first_lsn + 1, "first_lsn": rolled.first_lsn,
                "last_lsn": rolled.last_lsn, "file": rolled.file.display().to_string(),
            }),
            None => json!({"rolled": 0}),
        })
    }
}

/// The gateway has another working folder than whoever asks.
fn absolute(path: &str) -> Result<PathBuf, OfficeError> {
    let path = Path::new(path);
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(usage("the path must be absolute")) }
}

/// Away from the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, OfficeError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| StoreError::Unavailable(error.to_string()))??)
}
