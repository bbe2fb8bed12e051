//! What the pages that we write for browsers promise, for their tests.

/// Fails where a page, its style or its script names another place, or makes markup of text.
pub fn asks_nobody_and_makes_no_markup(name: &str, text: &str) {
    let elsewhere = text.match_indices("//").filter(|(at, _)| {
        let rest = &text[*at + 2..];
        let namespace = rest.starts_with("www.w3.org/2000/svg");
        rest.starts_with(char::is_alphanumeric) && !namespace
    });
    assert_eq!(elsewhere.count(), 0, "{name} names another place");
    for risky in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "eval(",
        "document.write",
    ] {
        assert!(!text.contains(risky), "{name} has {risky}");
    }
}
