//! Which build of the program this is.

/// The package's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the program was built from, 40 hex digits, with `-dirty` after them when files
/// differed from it; `unknown` in a development build. `build.rs` has where it comes from.
pub const COMMIT: &str = match option_env!("CUTOUT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Both, as `cutout --version` tells them after the name.
pub fn of_program() -> String {
    format!("{VERSION} ({COMMIT})")
}
