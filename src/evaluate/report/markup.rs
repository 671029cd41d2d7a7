//! Writes HTML and SVG that is well-formed by construction: elements close themselves, every string is escaped, and numbers
//! are finite. The result is also XML, so that a strict parser can check it.

use std::fmt::{self, Display, Write};

/// A document in the making.
#[derive(Debug, Default)]
pub(super) struct Markup {
    text: String,
}

/// An attribute's name and value.
pub(super) type Attribute<'a> = (&'static str, &'a dyn Display);

impl Markup {
    /// `<name attributes>content</name>`.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: &[Attribute<'_>],
        content: impl FnOnce(&mut Markup),
    ) {
        self.start(name, attributes);
        self.text.push('>');
        content(self);
        self.put(format_args!("</{name}>"));
    }

    /// An element that holds only text.
    pub(super) fn labelled(&mut self, name: &'static str, attributes: &[Attribute<'_>], text: impl Display) {
        self.element(name, attributes, |markup| markup.text(text));
    }

    /// `<name attributes/>`: an SVG element without content, or a void element of HTML.
    pub(super) fn leaf(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        self.start(name, attributes);
        self.text.push_str("/>");
    }

    /// Text.
    pub(super) fn text(&mut self, text: impl Display) {
        write!(Escaped(&mut self.text), "{text}").expect("writing to a string cannot fail");
    }

    /// Trusted text of our own: a style sheet, the doctype.
    pub(super) fn verbatim(&mut self, text: &'static str) {
        self.text.push_str(text);
    }

    /// The whole document.
    pub(super) fn into_string(self) -> String {
        self.text
    }

    fn start(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        self.put(format_args!("<{name}"));
        for (attribute, value) in attributes {
            self.put(format_args!(" {attribute}=\""));
            self.text(value);
            self.text.push('"');
        }
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a string cannot fail");
    }
}

/// Escapes what is written through it.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                // Not allowed in XML, and invisible at best.
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// A length or coordinate in user units, to a tenth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Px(pub(super) f64);

impl Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_assert!(self.0.is_finite(), "a coordinate is a finite number");
        let tenths = if self.0.is_finite() { (self.0 * 10.0).round() } else { 0.0 };
        // Adding zero makes −0 a 0.
        write!(f, "{}", tenths / 10.0 + 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped() {
        let mut markup = Markup::default();
        markup.labelled("p", &[("title", &"\"a\" & 'b'\u{0}")], "<script>alert(1)</script>");
        markup.leaf("rect", &[("x", &Px(-0.04)), ("y", &Px(1.25))]);
        assert_eq!(
            markup.into_string(),
            "<p title=\"&quot;a&quot; &amp; &#39;b&#39;\u{fffd}\">&lt;script&gt;alert(1)&lt;/script&gt;</p>\
             <rect x=\"0\" y=\"1.3\"/>"
        );
    }
}
