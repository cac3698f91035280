//! Units of measurement: products of powers of the named units of SBML (level 3 version 2, table 3, and those of older levels).

use std::fmt::{self, Display};

/// The units to which all others go back, each a dimension of its own.
const BASE: usize = 8;

/// A named unit: name, factor, exponents of ampere, candela, item, kelvin, kilogram, metre, mole and second.
type Kind = (&'static str, f64, [i8; BASE]);

/// All named units. Degrees Celsius are kelvins here, as zero points do not matter to the dimension of a formula.
const KINDS: &[Kind] = &[
    ("ampere", 1.0, [1, 0, 0, 0, 0, 0, 0, 0]),
    ("avogadro", 6.02214179e23, [0; BASE]),
    ("becquerel", 1.0, [0, 0, 0, 0, 0, 0, 0, -1]),
    ("candela", 1.0, [0, 1, 0, 0, 0, 0, 0, 0]),
    ("Celsius", 1.0, [0, 0, 0, 1, 0, 0, 0, 0]),
    ("coulomb", 1.0, [1, 0, 0, 0, 0, 0, 0, 1]),
    ("dimensionless", 1.0, [0; BASE]),
    ("farad", 1.0, [2, 0, 0, 0, -1, -2, 0, 4]),
    ("gram", 1e-3, [0, 0, 0, 0, 1, 0, 0, 0]),
    ("gray", 1.0, [0, 0, 0, 0, 0, 2, 0, -2]),
    ("henry", 1.0, [-2, 0, 0, 0, 1, 2, 0, -2]),
    ("hertz", 1.0, [0, 0, 0, 0, 0, 0, 0, -1]),
    ("item", 1.0, [0, 0, 1, 0, 0, 0, 0, 0]),
    ("joule", 1.0, [0, 0, 0, 0, 1, 2, 0, -2]),
    ("katal", 1.0, [0, 0, 0, 0, 0, 0, 1, -1]),
    ("kelvin", 1.0, [0, 0, 0, 1, 0, 0, 0, 0]),
    ("kilogram", 1.0, [0, 0, 0, 0, 1, 0, 0, 0]),
    ("liter", 1e-3, [0, 0, 0, 0, 0, 3, 0, 0]),
    ("litre", 1e-3, [0, 0, 0, 0, 0, 3, 0, 0]),
    ("lumen", 1.0, [0, 1, 0, 0, 0, 0, 0, 0]),
    ("lux", 1.0, [0, 1, 0, 0, 0, -2, 0, 0]),
    ("meter", 1.0, [0, 0, 0, 0, 0, 1, 0, 0]),
    ("metre", 1.0, [0, 0, 0, 0, 0, 1, 0, 0]),
    ("mole", 1.0, [0, 0, 0, 0, 0, 0, 1, 0]),
    ("newton", 1.0, [0, 0, 0, 0, 1, 1, 0, -2]),
    ("ohm", 1.0, [-2, 0, 0, 0, 1, 2, 0, -3]),
    ("pascal", 1.0, [0, 0, 0, 0, 1, -1, 0, -2]),
    ("radian", 1.0, [0; BASE]),
    ("second", 1.0, [0, 0, 0, 0, 0, 0, 0, 1]),
    ("siemens", 1.0, [2, 0, 0, 0, -1, -2, 0, 3]),
    ("sievert", 1.0, [0, 0, 0, 0, 0, 2, 0, -2]),
    ("steradian", 1.0, [0; BASE]),
    ("tesla", 1.0, [-1, 0, 0, 0, 1, 0, 0, -2]),
    ("volt", 1.0, [-1, 0, 0, 0, 1, 2, 0, -3]),
    ("watt", 1.0, [0, 0, 0, 0, 1, 2, 0, -3]),
    ("weber", 1.0, [-1, 0, 0, 0, 1, 2, 0, -2]),
];

/// Names of powers of ten.
const PREFIXES: [(i32, &str); 16] = [
    (-18, "atto"),
    (-15, "femto"),
    (-12, "pico"),
    (-9, "nano"),
    (-6, "micro"),
    (-3, "milli"),
    (-2, "centi"),
    (-1, "deci"),
    (1, "deca"),
    (2, "hecto"),
    (3, "kilo"),
    (6, "mega"),
    (9, "giga"),
    (12, "tera"),
    (15, "peta"),
    (18, "exa"),
];

/// Exponents and logarithms of factors closer than this are the same: factors in models are rounded.
const TOLERANCE: f64 = 1e-6;

/// The names of all units that a level knows (20410, 20412, 20421).
pub(super) fn kinds(level: u32, version: u32) -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, ..)| *name).filter(move |name| match *name {
        "avogadro" => level >= 3,
        "Celsius" => (level, version) <= (2, 1),
        "liter" | "meter" => level == 1,
        _ => true,
    })
}

/// A unit as a product of powers of multiples of named units. Without parts it is dimensionless.
#[derive(Debug, Clone, Default)]
pub(super) struct Unit {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    /// Index into the table of named units.
    kind: usize,
    factor: f64,
    exponent: f64,
}

/// How two units differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Difference {
    None,
    /// The first is this multiple of the second.
    Factor(f64),
    Dimension,
}

impl Unit {
    /// `(factor * kind)^exponent`; `None` if no named unit is called `kind`.
    pub(super) fn new(kind: &str, factor: f64, exponent: f64) -> Option<Unit> {
        let kind = KINDS.iter().position(|(name, ..)| *name == kind)?;
        let mut unit = Unit::default();
        unit.insert(&Part { kind, factor, exponent }, 1.0);
        Some(unit)
    }

    fn insert(&mut self, part: &Part, power: f64) {
        let exponent = part.exponent * power;
        let plain = KINDS[part.kind].2 == [0; BASE] && KINDS[part.kind].1 == 1.0 && part.factor == 1.0;
        if plain || exponent == 0.0 {
            return;
        }
        match self.parts.iter().position(|p| p.kind == part.kind && p.factor == part.factor) {
            Some(index) => {
                self.parts[index].exponent += exponent;
                if self.parts[index].exponent.abs() < TOLERANCE {
                    self.parts.remove(index);
                }
            }
            None => self.parts.push(Part { exponent, ..part.clone() }),
        }
    }

    /// The product with a power of another unit.
    pub(super) fn times(mut self, other: &Unit, power: f64) -> Unit {
        other.parts.iter().for_each(|part| self.insert(part, power));
        self
    }

    /// Exponents of the base units and logarithm of the factor.
    fn reduced(&self) -> ([f64; BASE], f64) {
        let (mut exponents, mut factor) = ([0.0; BASE], 0.0);
        for part in &self.parts {
            let (_, of_kind, of_base) = KINDS[part.kind];
            factor += part.exponent * (part.factor * of_kind).ln();
            exponents.iter_mut().zip(of_base).for_each(|(sum, e)| *sum += part.exponent * f64::from(e));
        }
        (exponents, factor)
    }

    pub(super) fn difference(&self, other: &Unit) -> Difference {
        let ((a, factor_a), (b, factor_b)) = (self.reduced(), other.reduced());
        if a.iter().zip(b).any(|(a, b)| (a - b).abs() > TOLERANCE) {
            return Difference::Dimension;
        }
        // A factor that is no number (a multiplier of zero, say) compares as equal.
        if (factor_a - factor_b).abs() > TOLERANCE { Difference::Factor((factor_a - factor_b).exp()) } else { Difference::None }
    }
}

/// A number as people write it: 1000, 0.001, 6.022e23.
pub(super) fn short(x: f64) -> String {
    let rounded: f64 = format!("{x:.5e}").parse().unwrap_or(x);
    if (1e-4..1e6).contains(&rounded.abs()) { rounded.to_string() } else { format!("{rounded:e}") }
}

/// The multiple of a named unit, with a prefix or a name of its own where it has one.
fn multiple(kind: &str, factor: f64) -> String {
    let is = |value: f64| (factor / value - 1.0).abs() < TOLERANCE;
    if is(1.0) {
        return kind.to_owned();
    }
    if kind == "second" && factor >= 60.0 {
        let (unit, name) = [(86400.0, "day"), (3600.0, "hour"), (60.0, "minute")]
            .into_iter()
            .find(|(f, _)| factor >= *f * (1.0 - TOLERANCE))
            .unwrap_or((1.0, kind));
        return if is(unit) { name.to_owned() } else { format!("({} {name})", short(factor / unit)) };
    }
    let (kind, factor) = if kind == "kilogram" { ("gram", 1000.0 * factor) } else { (kind, factor) };
    let is = |value: f64| (factor / value - 1.0).abs() < TOLERANCE;
    let prefix = PREFIXES.into_iter().find(|(power, _)| is(10f64.powi(*power)));
    if is(1.0) {
        return kind.to_owned();
    }
    match (kind, prefix) {
        ("item" | "dimensionless" | "avogadro", _) | (_, None) => format!("({} {kind})", short(factor)),
        (_, Some((_, prefix))) => format!("{prefix}{kind}"),
    }
}

/// `mole / litre / second`, `metre^2`, `1 / second`, `dimensionless`.
impl Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return f.write_str("dimensionless");
        }
        let (above, mut below): (Vec<&Part>, Vec<&Part>) = self.parts.iter().partition(|p| p.exponent > 0.0);
        // A rate is read as something per second, so the time comes last.
        below.sort_by_key(|part| KINDS[part.kind].0 == "second");
        let power = |part: &Part| {
            let name = multiple(KINDS[part.kind].0, part.factor);
            let exponent = part.exponent.abs();
            if (exponent - 1.0).abs() < TOLERANCE { name } else { format!("{name}^{}", short(exponent)) }
        };
        let mut text: Vec<String> = above.into_iter().map(power).collect();
        if text.is_empty() {
            text.push("1".to_owned());
        }
        write!(f, "{}", text.join(" "))?;
        below.into_iter().try_for_each(|part| write!(f, " / {}", power(part)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unit(parts: &[(&str, f64, f64)]) -> Unit {
        parts.iter().fold(Unit::default(), |unit, (kind, factor, exponent)| unit.times(&Unit::new(kind, *factor, *exponent).unwrap(), 1.0))
    }

    #[test]
    fn units_are_written_as_people_write_them() {
        let text = |parts: &[(&str, f64, f64)]| unit(parts).to_string();
        assert_eq!(text(&[]), "dimensionless");
        assert_eq!(text(&[("second", 1.0, -1.0)]), "1 / second");
        assert_eq!(text(&[("mole", 1e-3, 1.0), ("second", 60.0, -1.0), ("litre", 1.0, -1.0)]), "millimole / litre / minute");
        assert_eq!(text(&[("mole", 1.0, -2.0), ("metre", 0.1, 3.0), ("kilogram", 1e-3, 0.5)]), "decimetre^3 gram^0.5 / mole^2");
        assert_eq!(text(&[("dimensionless", 1.0, 3.0), ("item", 1000.0, 1.0)]), "(1000 item)");
        assert_eq!(
            text(&[("second", 3600.0, 1.0), ("kilogram", 1e-6, 1.0), ("second", 31557600.0, -1.0)]),
            "hour milligram / (365.25 day)"
        );
    }

    #[test]
    fn units_are_compared_by_dimension_and_factor() {
        let litre = unit(&[("litre", 1.0, 1.0)]);
        assert_eq!(litre.difference(&unit(&[("metre", 0.1, 3.0)])), Difference::None);
        assert_eq!(litre.difference(&unit(&[("metre", 1.0, 2.0)])), Difference::Dimension);
        let Difference::Factor(factor) = unit(&[("metre", 1.0, 3.0)]).difference(&litre) else { panic!() };
        assert!((factor - 1000.0).abs() < 1e-9);
        let force = unit(&[("kilogram", 1.0, 1.0), ("metre", 1.0, 1.0), ("second", 1.0, -2.0)]);
        assert_eq!(unit(&[("newton", 1.0, 1.0)]).difference(&force), Difference::None);
        assert_eq!(unit(&[("radian", 1.0, 1.0)]).difference(&Unit::default()), Difference::None);
        assert_eq!(unit(&[("item", 1.0, 1.0)]).difference(&Unit::default()), Difference::Dimension);
    }

    #[test]
    fn powers_cancel() {
        let rate = unit(&[("mole", 1.0, 1.0), ("second", 1.0, -1.0)]);
        assert_eq!(rate.clone().times(&unit(&[("second", 1.0, 1.0)]), 1.0).to_string(), "mole");
        assert_eq!(rate.clone().times(&rate, -1.0).to_string(), "dimensionless");
        assert_eq!(Unit::default().times(&rate, 0.5).to_string(), "mole^0.5 / second^0.5");
    }
}
