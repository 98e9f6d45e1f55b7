//! Words of others, made fit for people.

use std::fmt::Display;

/// What the operating system says, without the number that Rust puts behind it.
pub fn of_system(error: &impl Display) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_left_out_and_nothing_else() {
        assert_eq!(of_system(&"No space left on device (os error 28)"), "No space left on device");
        assert_eq!(of_system(&"no number in it"), "no number in it");
    }
}
