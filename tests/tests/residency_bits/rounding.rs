//! What a number becomes in a narrower or wider type, by arithmetic alone: to the nearest, halves to even. No bit of it is
//! libtorch's or Hoist's.

use crate::worker::Tensor;

/// What follows the upper half of an F32: exact, just below, at and above a half of what F16 and BF16 round to.
const LOWER: [u16; 9] = [0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff];

/// Every F16, every BF16, F32 around every place where it is rounded, and integers, which no conversion touches.
pub(crate) fn numbers() -> Vec<(&'static str, Tensor)> {
    let all = || (0..=u16::MAX).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let singles =
        (0..=u16::MAX).flat_map(|upper| LOWER.map(|lower| u32::from(upper) << 16 | u32::from(lower)));
    let singles: Vec<u8> = singles.flat_map(u32::to_le_bytes).collect();
    let of =
        |dtype: &str, shape: &[u64], bytes| Tensor { dtype: dtype.to_owned(), shape: shape.to_vec(), bytes };
    vec![
        ("singles", of("F32", &[1 << 16, LOWER.len() as u64], singles)),
        ("halves", of("F16", &[1 << 16], all())),
        ("brains", of("BF16", &[256, 256], all())),
        ("steps", of("I64", &[], (-7_i64).to_le_bytes().to_vec())),
    ]
}

/// A tensor of floating point in another type; any other as it is.
pub(crate) fn converted(tensor: &Tensor, dtype: &str) -> Tensor {
    let Some(values) = values(tensor) else { return tensor.clone() };
    let bytes = match dtype {
        "F16" => values.flat_map(|value| narrow(value, 5, 10).to_le_bytes()).collect(),
        "BF16" => values.flat_map(|value| narrow(value, 8, 7).to_le_bytes()).collect(),
        // All that there is here fits it.
        "F32" => values.flat_map(|value| single(value).to_le_bytes()).collect(),
        other => panic!("{other}"),
    };
    Tensor { dtype: dtype.to_owned(), bytes, ..tensor.clone() }
}

#[expect(clippy::cast_possible_truncation, reason = "an F64 that was an F32, an F16 or a BF16 fits an F32")]
const fn single(value: f64) -> f32 {
    value as f32
}

/// Exactly; F64 holds every value of the narrower types.
fn values(tensor: &Tensor) -> Option<Box<dyn Iterator<Item = f64> + '_>> {
    let halves = || tensor.bytes.as_chunks::<2>().0.iter().map(|two| u16::from_le_bytes(*two));
    match &*tensor.dtype {
        "F32" => Some(Box::new(
            tensor.bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four).into()),
        )),
        "F16" => Some(Box::new(halves().map(|code| wide(code, 5, 10)))),
        "BF16" => Some(Box::new(halves().map(|code| wide(code, 8, 7)))),
        _ => None,
    }
}

/// The value of a code of one bit of sign, so many of exponent and so many of fraction.
fn wide(code: u16, exponent_bits: u32, fraction_bits: u32) -> f64 {
    let sign = if code >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = u32::from(code & 0x7fff) >> fraction_bits;
    let fraction = f64::from(u32::from(code) & ((1 << fraction_bits) - 1));
    let whole = f64::from(1_u32 << fraction_bits);
    let least = 2 - (1_i32 << (exponent_bits - 1));
    match exponent {
        0 => sign * fraction / whole * power(least),
        top if top == (1 << exponent_bits) - 1 && fraction > 0.0 => f64::NAN,
        top if top == (1 << exponent_bits) - 1 => sign * f64::INFINITY,
        some => sign * (1.0 + fraction / whole) * power(least + i32::try_from(some).unwrap() - 1),
    }
}

/// The nearest code.
fn narrow(value: f64, exponent_bits: u32, fraction_bits: u32) -> u16 {
    let sign = u16::from(value.is_sign_negative()) << 15;
    let infinite = ((1_u32 << exponent_bits) - 1) << fraction_bits;
    let size = value.abs();
    if size.is_nan() {
        return sign | 0x7fff;
    }
    if size == 0.0 || size.is_infinite() {
        return sign | if size == 0.0 { 0 } else { u16::try_from(infinite).unwrap() };
    }
    let least = 2 - (1_i32 << (exponent_bits - 1));
    // What is at least 2^-149, which every value here is, has its exponent in the bits of an F64.
    let exponent = (i32::try_from(size.to_bits() >> 52).unwrap() - 1_023).max(least);
    let steps = (size / power(exponent - i32::try_from(fraction_bits).unwrap())).round_ties_even();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 2^11, and whole")]
    let steps = steps as u32;
    let code = (u32::try_from(exponent - least).unwrap() << fraction_bits) + steps;
    sign | u16::try_from(code.min(infinite)).unwrap()
}

fn power(exponent: i32) -> f64 {
    2.0_f64.powi(exponent)
}

/// The same bytes; or no number where there is none, whichever of its many codes.
pub(crate) fn is_same(one: &Tensor, other: &Tensor) -> bool {
    let is_alike =
        (&one.dtype, &one.shape, one.bytes.len()) == (&other.dtype, &other.shape, other.bytes.len());
    let (Some(mut ours), Some(mut theirs)) = (values(one), values(other)) else { return one == other };
    let same =
        |ours: f64, theirs: f64| ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
    is_alike
        && std::iter::from_fn(|| Some((ours.next()?, theirs.next()?)))
            .all(|(ours, theirs)| same(ours, theirs))
}

#[test]
fn what_is_exact_stays_and_halves_go_to_even() {
    for (value, half, brain) in [
        (0.0, 0x0000, 0x0000),
        (-1.0, 0xbc00, 0xbf80),
        (65_504.0, 0x7bff, 0x4780),
        (65_520.0, 0x7c00, 0x4780),
        (1.0 + 1.0 / 2_048.0, 0x3c00, 0x3f80),
        (1.0 + 3.0 / 2_048.0, 0x3c02, 0x3f80),
        (1.0 + 1.0 / 256.0, 0x3c04, 0x3f80),
        (1.0 + 3.0 / 256.0, 0x3c0c, 0x3f82),
        (2.0_f64.powi(-24), 0x0001, 0x3380),
        (2.0_f64.powi(-25), 0x0000, 0x3300),
    ] {
        assert_eq!((narrow(value, 5, 10), narrow(value, 8, 7)), (half, brain), "{value}");
    }
    for code in (0..=u16::MAX).filter(|code| !wide(*code, 5, 10).is_nan()) {
        assert_eq!(narrow(wide(code, 5, 10), 5, 10), code);
    }
}
