//! Naming listeners, instead of taking all that are linked.

/// The listeners of the functions and components named, for `.listeners(..)` of the builder.
///
/// For a function without `#[listener]` rustc says `expected type, found function`: the attribute is missing.
///
/// ```
/// use aftercommit::{Event, listed, listener};
///
/// #[derive(Event)]
/// struct PageChanged { page: u32 }
///
/// #[listener]
/// fn drop_cached_page(event: &PageChanged) {
///     println!("dropping page {}", event.page);
/// }
///
/// let registrations = listed![drop_cached_page];
/// assert_eq!(registrations.len(), 1);
/// ```
#[macro_export]
macro_rules! listed {
    ($($listener:ty),* $(,)?) => {{
        let mut registrations: ::std::vec::Vec<$crate::listener::Registration> = ::std::vec::Vec::new();
        $(registrations.extend(<$listener as $crate::listener::Declared>::registrations());)*
        registrations
    }};
}
