//! The page in a real browser: headless Chromium, a phone and a desktop.
//!
//! Not for the rules behind the page, which other tiers test. Screenshots are left in
//! `target/screenshots/`.

mod kit;
mod shop;
