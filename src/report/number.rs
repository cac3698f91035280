//! Numbers as text for readers. Tables for machines use the shortest text that reads back as the same number instead.

/// `value` with `digits` significant digits in ASCII, without trailing zeros; powers of ten where it is very large or small.
pub fn general(value: f64, digits: usize) -> String {
    if !value.is_finite() || value == 0.0 {
        return special(value);
    }
    let scientific = format!("{:.*e}", digits.max(1) - 1, value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6.max(digits as i32)).contains(&exponent) {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        trim_zeros(&format!("{value:.decimals$}")).to_owned()
    } else {
        format!("{}e{exponent}", trim_zeros(mantissa))
    }
}

/// As [`general`], with the minus sign and powers of ten as they are printed in a book.
pub fn typeset(value: f64, digits: usize) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "∞".to_owned() } else { "−∞".to_owned() };
    }
    let text = general(value, digits);
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let power = format!("10{}", superscript(exponent));
            match mantissa {
                "1" => power,
                "-1" => format!("−{power}"),
                _ => format!("{}·{power}", mantissa.replace('-', "−")),
            }
        }
        None => text.replace('-', "−"),
    }
}

/// Log-likelihoods and criteria: `decimals` places, so that differences can be seen.
pub fn objective(value: f64, decimals: usize) -> String {
    if value.is_finite() && value.abs() < 1e9 { format!("{value:.decimals$}") } else { general(value, 10) }
}

/// A duration in seconds.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return special(value);
    }
    let whole = value.max(0.0).round() as u64;
    if value < 60.0 { format!("{value:.1} s") } else { format!("{}:{:02}:{:02} h", whole / 3600, whole / 60 % 60, whole % 60) }
}

/// Digits of an integer as superscripts.
pub fn superscript(exponent: &str) -> String {
    let digit = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '0' | '4'..='9' => char::from_u32(0x2070 + (c as u32 - '0' as u32)).unwrap_or(c),
        _ => c,
    };
    exponent.chars().map(digit).collect()
}

fn special(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "inf".to_owned(),
        f64::NEG_INFINITY => "-inf".to_owned(),
        _ => "0".to_owned(),
    }
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_readers() {
        assert_eq!(general(1234.5678, 6), "1234.57");
        assert_eq!(general(0.00012345, 3), "0.000123");
        assert_eq!(general(-9.9999e-7, 3), "-1e-6");
        assert_eq!(general(250.0, 3), "250");
        assert_eq!(general(1e12, 3), "1e12");
        assert_eq!(general(f64::NAN, 3), "NaN");
        assert_eq!(typeset(-2.5e-7, 3), "−2.5·10⁻⁷");
        assert_eq!(typeset(1e12, 3), "10¹²");
        assert_eq!(typeset(f64::NEG_INFINITY, 3), "−∞");
        assert_eq!(objective(1204.31749, 3), "1204.317");
        assert_eq!(seconds(3.12), "3.1 s");
        assert_eq!(seconds(3725.2), "1:02:05 h");
    }
}
