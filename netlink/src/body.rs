/// A fixed header, then attributes.
#[derive(Clone, Debug)]
pub struct Body(Vec<u8>);

impl Body {
    pub fn new(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        // No value here is longer than a name or an action.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    #[must_use]
    pub fn with_name(self, kind: u16, name: &str) -> Self {
        self.with(kind, &[name.as_bytes(), b"\0"].concat())
    }

    #[must_use]
    pub fn nest(self, kind: u16, inner: &Self) -> Self {
        self.with(kind, &inner.0)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
