//! How much memory this process has.

/// Bytes of a page on the machines this is run on.
const PAGE_BYTES: f64 = 4096.0;

/// Returns the resident set in MiB; 0 where the system does not tell.
pub(crate) fn resident_mib() -> f64 {
    resident_bytes() / (1024.0 * 1024.0)
}

/// Returns the resident set in bytes; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * PAGE_BYTES
}
