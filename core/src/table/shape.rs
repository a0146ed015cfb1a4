//! What is recorded of a table, and how its errors name a row.

use std::sync::Arc;

use crate::error::{BoxError, Error, StoreError};
use crate::key::{Key, decode_key, readable};
use crate::store::TableSpec;

/// The name of `T` without the paths of modules: `Vec<Order>`, not `alloc::vec::Vec<shop::order::Order>`.
pub(super) fn type_name<T>() -> String {
    without_paths(std::any::type_name::<T>())
}

fn without_paths(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("::") {
        let kept = rest[..at].trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
        out.push_str(kept);
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    out
}

/// The key of a stored row; an error if its bytes are no `K`.
pub(super) fn decode_row_key<K: Key>(spec: &TableSpec, bytes: &[u8]) -> Result<K, Error> {
    decode_key(bytes).map_err(|cause| value_error(spec, "decode the key of", bytes, cause))
}

/// The value under `key` could not be encoded or decoded.
pub(super) fn value_error(spec: &TableSpec, action: &'static str, key: &[u8], cause: impl Into<BoxError>) -> Error {
    let cause = RowError { key: readable(key), cause: cause.into() };
    StoreError::Value { action, table: spec.name.to_owned(), cause: Arc::new(cause) }.into()
}

/// Which row it was.
#[derive(Debug, thiserror::Error)]
#[error("the row with key {key}")]
struct RowError {
    key: String,
    #[source]
    cause: BoxError,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_named_without_its_modules() {
        fn check(full: &str, expected: &str) {
            assert_eq!(without_paths(full), expected);
        }
        check("u64", "u64");
        check("shop::order::Order", "Order");
        check("alloc::vec::Vec<shop::order::Order>", "Vec<Order>");
        check("(shop::a::A, [shop::b::B; 3])", "(A, [B; 3])");
        check(
            "std::collections::BTreeMap<alloc::string::String, core::option::Option<shop::C_1>>",
            "BTreeMap<String, Option<C_1>>",
        );
        check("&'static shop::D", "&'static D");
    }

    #[test]
    fn a_type_of_this_program_is_named_without_its_modules() {
        assert_eq!(type_name::<Option<Vec<RowError>>>(), "Option<Vec<RowError>>");
    }
}
