//! Prior columns of the parameter table: `priorDistribution` of version 2, `objectivePriorType` and `initializationPriorType` of version 1.

use super::table::{Cell, parse_number, show};
use super::{Parameter, Prior, PriorFamily, Version};
use crate::diag::{Diagnostic, Diagnostics};

use PriorFamily::{
    Cauchy, ChiSquare, Exponential, Gamma, Laplace, LogLaplace, LogNormal, LogUniform, Normal, Rayleigh, ScaleLaplace, ScaleNormal,
    ScaleUniform, Uniform,
};

/// Families of version 1.
const V1: [(&str, PriorFamily); 8] = [
    ("uniform", Uniform),
    ("normal", Normal),
    ("laplace", Laplace),
    ("logNormal", LogNormal),
    ("logLaplace", LogLaplace),
    ("parameterScaleUniform", ScaleUniform),
    ("parameterScaleNormal", ScaleNormal),
    ("parameterScaleLaplace", ScaleLaplace),
];

/// Families of version 2.
const V2: [(&str, PriorFamily); 11] = [
    ("cauchy", Cauchy),
    ("chisquare", ChiSquare),
    ("exponential", Exponential),
    ("gamma", Gamma),
    ("laplace", Laplace),
    ("log-laplace", LogLaplace),
    ("log-normal", LogNormal),
    ("log-uniform", LogUniform),
    ("normal", Normal),
    ("rayleigh", Rayleigh),
    ("uniform", Uniform),
];

/// Reads a prior from the cells of its family and its numbers and checks it against the parameter's bounds, which stand in `parameter`.
/// `None` without a prior, and for the uniform ones of version 1 whose numbers are left to the bounds: that is what the bounds say.
pub fn read([family_cell, values]: [Cell; 2], version: Version, parameter: &Parameter, d: &mut Diagnostics) -> Option<Prior> {
    let words: &[(&str, PriorFamily)] = if version == Version::V1 { &V1 } else { &V2 };
    let family = family_cell.word(words, d).ok()??;
    let span = family_cell.span();
    let bounds = vec![parameter.lower, parameter.upper];
    if values.is_missing() && version == Version::V1 && matches!(family, Uniform | ScaleUniform) {
        let proper = family == Uniform && bounds.iter().all(|b| b.is_finite()) && parameter.lower < parameter.upper;
        return proper.then_some(Prior { family, parameters: bounds, span });
    }
    let mut parameters = Vec::new();
    for part in values.text().split(';').map(str::trim).filter(|p| !p.is_empty() && !values.is_missing()) {
        match parse_number(part).filter(|v| v.is_finite()) {
            Some(value) => parameters.push(value),
            None => {
                values.not_a_number("finite numbers separated by semicolons", d);
                return None;
            }
        }
    }
    let names = family.parameters();
    if parameters.len() != names.len() {
        d.push(
            Diagnostic::error(
                "P0117",
                format!("the prior `{}` has {} parameters, not {}", family_cell.text(), names.len(), parameters.len()),
            )
            .at(&values.span(), "expected numbers separated by semicolons")
            .also(&span, "the prior"),
        );
        return None;
    }
    if let Some(rule) = outside_domain(family, &parameters) {
        let shape = names.join("; ");
        d.push(
            Diagnostic::error("P0127", format!("the prior `{}` cannot have these parameters: {rule}", family_cell.text()))
                .at(&values.span(), format!("these are {shape}"))
                .also(&span, "the prior"),
        );
        return None;
    }
    let (low, high) = support(family, &parameters, parameter);
    // A parameter between equal bounds is fixed, whatever its prior.
    if parameter.estimate && parameter.lower < parameter.upper && low.max(parameter.lower) >= high.min(parameter.upper) {
        d.push(
            Diagnostic::error("P0128", format!("the prior of `{}` excludes all values between its bounds", parameter.id))
                .at(&values.span(), format!("its density is positive from {} to {} only", show(low), show(high)))
                .help(format!("the bounds are {} and {}", show(parameter.lower), show(parameter.upper))),
        );
        return None;
    }
    Some(Prior { family, parameters, span })
}

/// The condition on its parameters that a prior breaks.
fn outside_domain(family: PriorFamily, p: &[f64]) -> Option<&'static str> {
    let broken = |condition: bool, rule: &'static str| (!condition).then_some(rule);
    match family {
        Uniform | ScaleUniform => broken(p[0] < p[1], "the first must be less than the second"),
        LogUniform => broken(0.0 < p[0] && p[0] < p[1], "both must be positive, the first less than the second"),
        Normal | LogNormal | ScaleNormal => broken(p[1] > 0.0, "the standard deviation must be positive"),
        Cauchy | Laplace | LogLaplace | ScaleLaplace => broken(p[1] > 0.0, "the scale must be positive"),
        ChiSquare => broken(p[0] > 0.0, "the degrees of freedom must be positive"),
        Exponential | Rayleigh => broken(p[0] > 0.0, "the scale must be positive"),
        Gamma => broken(p[0] > 0.0 && p[1] > 0.0, "both must be positive"),
    }
}

/// Where the density is not zero, natural values.
fn support(family: PriorFamily, p: &[f64], parameter: &Parameter) -> (f64, f64) {
    match family {
        Uniform | LogUniform => (p[0], p[1]),
        ScaleUniform => (parameter.scale.unscale(p[0]), parameter.scale.unscale(p[1])),
        Normal | Laplace | Cauchy => (f64::NEG_INFINITY, f64::INFINITY),
        ScaleNormal | ScaleLaplace if parameter.scale == super::Scale::Lin => (f64::NEG_INFINITY, f64::INFINITY),
        _ => (0.0, f64::INFINITY),
    }
}
