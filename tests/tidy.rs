//! Rules about the source tree that neither rustfmt nor clippy knows.
//!
//! Each rule is a test named after what it claims; its message lists the places and says what to
//! do. Rules that need a type checker belong to clippy, rules about a format to its tool.

#[path = "tidy/tree.rs"]
mod tree;

#[path = "tidy/blank.rs"]
mod blank;

#[path = "tidy/files.rs"]
mod files;

#[path = "tidy/code.rs"]
mod code;

#[path = "tidy/workspace.rs"]
mod workspace;

#[path = "tidy/deploy.rs"]
mod deploy;
