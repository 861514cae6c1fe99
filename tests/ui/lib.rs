//! Nothing: the cases are in `pass` and `fail`, their runner in `ui.rs`.
