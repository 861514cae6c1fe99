//! Whole clusters in one thread on virtual time.
