//! Why a test could not go on: a sentence and the errors below it.
//!
//! Not an error type of the product. A test returns [`Result`] and uses `?` on anything; the
//! harness prints the chain.

use std::{error::Error, fmt};

/// The result of a test and of every part of the kit.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// A sentence about what went wrong, with its source.
pub struct Failure {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Returns a failure that says `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            source: None,
        }
    }
}

// `Failure` is not an `Error` itself: that keeps this conversion from everything possible.
impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(source: E) -> Self {
        Self {
            what: source.to_string(),
            source: source.source().map(|below| below.to_string().into()),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.what)?;
        let mut below = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(source) = below {
            write!(out, ": {source}")?;
            below = source.source();
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// Says what was being done when an error came.
pub trait Context<T> {
    /// Returns the value, or a failure that opens with `what`.
    ///
    /// # Errors
    /// When there is no value.
    fn context(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Error + Send + Sync + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Failure {
            what: what.into(),
            source: Some(source.into()),
        })
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Failure::new(what))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failure_prints_the_errors_below_it() {
        let below: std::result::Result<(), _> = Err(io::Error::other("no such file"));

        let failure = below.context("opening the journal").unwrap_err();

        assert_eq!(format!("{failure:?}"), "opening the journal: no such file");
    }
}
