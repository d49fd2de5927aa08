//! What a stream would still import after the machine has given it up.
//!
//! Another reader may not stumble where this one did. Opcodes are only stepped over here, so names can be found in
//! what is no longer a program; therefore only powerful ones count.

use super::globals::{Global, Standing};
use super::input::Input;
use super::{Dialect, Fault, Step, text};

/// Powerful globals in the rest of a stream, at most a handful.
pub(super) fn powerful_names(rest: &[u8], dialect: Dialect) -> Vec<Global> {
    const ENOUGH: usize = 8;
    let mut found = Vec::new();
    let mut input = Input::new(rest);
    let mut texts = Texts::default();
    while found.len() < ENOUGH {
        match step(&mut input, &mut texts) {
            Ok(Some((module, name))) => {
                let global = Global::new(&module, &name, dialect);
                if global.standing == Standing::Powerful {
                    found.push(global);
                }
            }
            Ok(None) => {}
            Err(_) => break,
        }
    }
    found
}

/// The last two texts: what a `STACK_GLOBAL` most likely takes.
#[derive(Default)]
struct Texts([String; 2]);

impl Texts {
    fn push(&mut self, text: String) {
        self.0.swap(0, 1);
        self.0[1] = text;
    }
}

/// Steps over one opcode; a pair if it names a global.
fn step(input: &mut Input<'_>, texts: &mut Texts) -> Step<Option<(String, String)>> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let opcode = input.byte()?;
    let start = input.at();
    match opcode {
        b'c' | b'i' => return Ok(Some((lossy(input.line()?), lossy(input.line()?)))),
        0x93 => return Ok(Some((texts.0[0].clone(), texts.0[1].clone()))),
        b'S' => texts.push(text::quoted(input.line()?).unwrap_or_default()),
        b'V' => texts.push(text::unicode(input.line()?).unwrap_or_default()),
        b'F' | b'I' | b'L' | b'P' | b'g' | b'p' => {
            input.line()?;
        }
        b'K' | b'h' | b'q' | 0x80 | 0x82 => {
            input.take(1)?;
        }
        b'M' | 0x83 => {
            input.take(2)?;
        }
        b'J' | b'j' | b'r' | 0x84 => {
            input.take(4)?;
        }
        b'G' | 0x95 => {
            input.take(8)?;
        }
        b'U' | b'X' | b'T' | 0x8c | 0x8d => {
            match opcode {
                b'U' | 0x8c => input.span8()?,
                b'X' => input.span32()?,
                b'T' => input.signed_span32()?,
                _ => input.span64()?,
            };
            let header = match opcode {
                b'U' | 0x8c => 1,
                0x8d => 8,
                _ => 4,
            };
            let text = input.bytes().get(start + header..input.at()).unwrap_or_default();
            // No module's name is longer, and this keeps long texts from being copied.
            texts.push(if text.len() <= 512 { lossy(text) } else { String::new() });
        }
        b'C' | 0x8a => {
            input.span8()?;
        }
        b'B' => {
            input.span32()?;
        }
        0x8b => {
            input.signed_span32()?;
        }
        0x8e | 0x96 => {
            input.span64()?;
        }
        b'('
        | b'.'
        | b'0'
        | b'1'
        | b'2'
        | b'N'
        | b'Q'
        | b'R'
        | b'a'
        | b'b'
        | b'd'
        | b'}'
        | b'e'
        | b'l'
        | b']'
        | b'o'
        | b's'
        | b't'
        | b')'
        | b'u'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x92
        | 0x94
        | 0x97
        | 0x98 => {}
        _ => return Err(Fault::Breaks("no opcode")),
    }
    Ok(None)
}
