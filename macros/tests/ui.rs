//! Mistakes are compile errors at the right token, in words that show the legal form.
//!
//! One file per mistake, named by it; what must compile is run too.
//! The texts are partly the compiler's, so that they are compared with one compiler only: the oldest that is supported.

use std::process::Command;

/// The compiler whose texts the `.stderr` files hold.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn what_is_legal_compiles_and_mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/*/pass/*.rs");
    if compiler().starts_with(COMPILER) {
        cases.compile_fail("tests/ui/*/fail/*.rs");
    } else {
        eprintln!("the texts of mistakes were NOT compared: they are those of {COMPILER}x, this is {}", compiler());
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("the compiler that built this test runs");
    String::from_utf8_lossy(&version.stdout).into_owned()
}
