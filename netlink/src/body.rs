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
    pub fn with_if(self, condition: bool, kind: u16, value: &[u8]) -> Self {
        if condition { self.with(kind, value) } else { self }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::encode;
    use crate::numbers::u32_at;

    #[test]
    fn pads_attributes() {
        let body = Body::new(&[1, 2, 3, 4]).with(3, b"eth0\0").with_if(false, 9, b"no");
        let bytes = encode(16, 0, 7, body.bytes());
        assert_eq!(u32_at(&bytes, 0), Some(16 + 4 + 12));
        assert_eq!(
            &bytes[16..],
            [1, 2, 3, 4, 9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]
        );
        assert_eq!(bytes.len() % 4, 0);
    }
}
