//! HTTP/1.1 as far as servers of tests speak it: one request a connection.

use std::io::{BufRead, Write};

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its target, as it stands in the first line.
    pub target: String,
    /// Its lines: the first one, and the header fields.
    pub head: Vec<String>,
}

impl Request {
    /// Reads a head up to the empty line; the body is left. None where the client ended first.
    pub fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let mut parts = head.first()?.split(' ').map(str::to_owned);
        let (method, target) = (parts.next()?, parts.next()?);
        Some(Self { method, target, head })
    }

    /// Its first line: method, target and version.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.head[0]
    }

    /// A header field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head[1..].iter().filter_map(|line| line.split_once(':'));
        fields.map(|(key, value)| (key, value.trim())).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, it)| it)
    }

    /// How many bytes its body has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// The first and the last byte that it asks for, where it asks for a part.
    #[must_use]
    pub fn range(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self.field("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }
}

/// Answers with a status, header fields that each end their line, and a body; says how long that is unless `headers` does.
pub fn respond(mut to: impl Write, status: &str, headers: &str, body: impl AsRef<[u8]>) -> Option<()> {
    let body = body.as_ref();
    let length = match headers.to_ascii_lowercase().contains("content-length:") {
        true => String::new(),
        false => format!("Content-Length: {}\r\n", body.len()),
    };
    write!(to, "HTTP/1.1 {status}\r\n{headers}{length}Connection: close\r\n\r\n").ok()?;
    to.write_all(body).ok()
}

#[cfg(test)]
mod tests {
    use super::{Request, respond};

    #[test]
    fn a_head_is_read_and_its_body_left() {
        let mut text = &b"PUT /a?b HTTP/1.1\r\nContent-Length: 2\r\nrange: bytes=3-\r\n\r\nxy"[..];
        let request = Request::read(&mut text).unwrap();
        assert_eq!((request.method.as_str(), request.target.as_str(), request.length()), ("PUT", "/a?b", 2));
        assert_eq!((request.range(), text), (Some((3, None)), &b"xy"[..]));
        assert!(Request::read(&mut &b"\r\n"[..]).is_none());
    }

    #[test]
    fn a_length_is_said_once() {
        let answer = |headers: &str| {
            let mut bytes = Vec::new();
            respond(&mut bytes, "200 OK", headers, "ab").unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(answer(""), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab");
        let other = answer("Content-Length: 9\r\n");
        assert_eq!(other, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nab");
    }
}
