//! A text as words and commas.

/// Words and commas, and how many of them are read. Every method reads what it understands, and never
/// goes back.
pub(super) struct Tokens<'a> {
    pub(super) tokens: Vec<&'a str>,
    pub(super) read: usize,
}

impl<'a> Tokens<'a> {
    /// The longest text that is read, in bytes: a list of all the minutes of a day has 10,000.
    pub(super) const LONGEST: usize = 65_536;

    pub(super) fn new(text: &'a str) -> Tokens<'a> {
        let tokens = text
            .split_whitespace()
            .flat_map(|word| word.split_inclusive(','))
            .flat_map(|word| match word.strip_suffix(',') {
                Some(word) => [word, ","],
                None => [word, ""],
            })
            .filter(|token| !token.is_empty())
            .collect();
        Tokens { tokens, read: 0 }
    }

    /// The next token as it was written.
    pub(super) fn next(&self) -> Option<&'a str> {
        self.tokens.get(self.read).copied()
    }

    pub(super) fn is_done(&self) -> bool {
        self.next().is_none()
    }

    /// The `n`-th next word, in lower case.
    pub(super) fn peek(&self, n: usize) -> Option<String> {
        self.tokens.get(self.read + n).map(|token| token.to_ascii_lowercase())
    }

    pub(super) fn skip_one(&mut self) {
        self.read += 1;
    }

    /// Skips the next word if it is this one; returns whether it was.
    pub(super) fn skip(&mut self, word: &str) -> bool {
        let skipped = self.peek(0).is_some_and(|next| next == word);
        self.read += usize::from(skipped);
        skipped
    }

    /// Skips what separates the items of a list; returns whether another item follows.
    pub(super) fn another(&mut self) -> bool {
        let comma = self.skip(",");
        self.skip("and") || comma
    }
}
