//! The two old text forms of strings: Python 2's quoted ones, and Unicode with escapes. They can spell a module's name.

/// What a `STRING` line says: quoted, with the escapes of a Python bytes literal. None if it is not well-formed.
pub(super) fn quoted(line: &[u8]) -> Option<String> {
    let line = line.trim_ascii();
    let (quote, rest) = line.split_first().filter(|(quote, _)| matches!(quote, b'\'' | b'"'))?;
    let body = rest.strip_suffix(&[*quote])?;
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'\n' => {}
            same @ (b'\\' | b'\'' | b'"') => bytes.push(same),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b't' => bytes.push(b'\t'),
            b'n' => bytes.push(b'\n'),
            b'v' => bytes.push(11),
            b'f' => bytes.push(12),
            b'r' => bytes.push(b'\r'),
            b'x' => bytes.push(u8::try_from(number(&mut rest, 2, 16)?).ok()?),
            first @ b'0'..=b'7' => bytes.push(octal(first, &mut rest)),
            other => bytes.extend([b'\\', other]),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a `UNICODE` line says: Latin-1 with `\uXXXX` and `\UXXXXXXXX`. None if an escape is cut.
pub(super) fn unicode(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.iter().copied();
    let mut backslashes = 0_u32;
    while let Some(byte) = rest.next() {
        // Only an odd backslash introduces an escape.
        let is_escape = !backslashes.is_multiple_of(2) && matches!(byte, b'u' | b'U');
        backslashes = if byte == b'\\' { backslashes + 1 } else { 0 };
        if is_escape {
            text.pop();
            let code = number(&mut rest, if byte == b'u' { 4 } else { 8 }, 16)?;
            text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        } else {
            text.push(char::from(byte));
        }
    }
    Some(text)
}

fn number(rest: &mut impl Iterator<Item = u8>, digits: usize, radix: u32) -> Option<u32> {
    (0..digits).try_fold(0_u32, |value, _| {
        value.checked_mul(radix)?.checked_add(char::from(rest.next()?).to_digit(radix)?)
    })
}

/// Up to three octal digits; like Python, only the low eight bits count.
fn octal(first: u8, rest: &mut (impl Iterator<Item = u8> + Clone)) -> u8 {
    let mut value = first - b'0';
    for _ in 0..2 {
        let Some(digit @ b'0'..=b'7') = rest.clone().next() else { break };
        rest.next();
        value = value.wrapping_mul(8).wrapping_add(digit - b'0');
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_spelt_in_escapes_is_read_as_python_reads_it() {
        assert_eq!(quoted(br"'\x6f\163'").as_deref(), Some("os"));
        assert_eq!(quoted(br#""a\'b\q" "#).as_deref(), Some(r"a'b\q"));
        assert_eq!(unicode(br"o\u0073").as_deref(), Some("os"));
        assert_eq!(unicode(br"\\u0073\\\U00000073").as_deref(), Some(r"\\u0073\\s"));
        assert_eq!(unicode(b"\xe9").as_deref(), Some("é"));
    }

    #[test]
    fn what_python_would_not_parse_is_no_text() {
        for line in [&b"os"[..], b"'os", b"'", b"", br"'\x6'", br"'a\'"] {
            assert_eq!(quoted(line), None, "{line:?}");
        }
        assert_eq!(unicode(br"\u00"), None);
    }
}
