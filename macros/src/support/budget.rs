//! Expansions are glue: each stays under a budget of lines.

use proc_macro2::TokenStream;

/// Checks that the items of an expansion, formatted, take no more than `lines`.
pub(crate) fn check(expansion: TokenStream, lines: usize) {
    let written = expansion.to_string();
    let file: syn::File = syn::parse2(expansion).unwrap_or_else(|error| panic!("{error} in\n{written}"));
    let pretty = prettyplease::unparse(&file);
    assert!(!pretty.contains("compile_error"), "refused:\n{pretty}");
    let count = pretty.lines().count();
    assert!(count <= lines, "{count} lines are more than {lines}:\n{pretty}");
}
