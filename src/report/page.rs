//! The report as one page: data for the template `page.html`, whose sections follow the order of a reader's questions.

use askama::Template;

use super::number::{objective, seconds, typeset};
use super::summary::{PLATEAU, SHRINKAGE_LIMIT, StartCounts, counts};
use super::svg::allowed;
use super::{RunResults, etas, fits, parameters, plots, residuals, tables, trace, waterfall};

/// Rows of outlier cells, warnings and inputs at most.
const ROWS: usize = 100;

/// A figure with its caption.
struct Figure {
    question: String,
    how: String,
    table: &'static str,
    /// `wide` for one drawing, `panels` for small multiples.
    class: &'static str,
    drawings: Vec<String>,
}

/// A row of the parameter table as text.
struct Parameter {
    id: String,
    scale: &'static str,
    cells: Vec<String>,
    bar: String,
    at_bound: bool,
}

/// A row of the table of random effects as text.
struct Effect {
    cells: [String; 5],
    flagged: bool,
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    problem: String,
    version: String,
    verdict: String,
    good: bool,
    objective: &'static str,
    numbers: Vec<(String, String)>,
    terms: Vec<(String, String)>,
    warnings: Vec<String>,
    description: Vec<(String, String)>,
    optimisation: Vec<Figure>,
    stops: Vec<(String, usize)>,
    failures: Vec<(String, usize)>,
    parameters: Vec<Parameter>,
    parameter_figures: Vec<Figure>,
    fits: Vec<Figure>,
    effects: Vec<Effect>,
    population: Vec<Figure>,
    outliers: Vec<[String; 4]>,
    outliers_left_out: usize,
    has_cells: bool,
    health: Vec<(String, String)>,
    command: String,
    options: String,
    inputs: Vec<(String, String)>,
    inputs_left_out: usize,
    shrinkage_limit: String,
}

/// The page as text.
///
/// # Errors
/// Only what the template engine reports, which no input leads to.
pub fn page(results: &RunResults) -> Result<String, askama::Error> {
    let n = counts(results);
    let info = &results.info;
    let (verdict, good) = verdict(results, n);
    let (outliers, outliers_left_out) = outliers(results);
    let page = Page {
        problem: clean(&info.problem),
        version: clean(&info.version),
        verdict,
        good,
        objective: results.objective.name(),
        numbers: numbers(results),
        terms: results.objective.terms.iter().map(|(name, value)| (clean(name), sign(objective(*value, 3)))).collect(),
        warnings: limited(&info.warnings),
        description: pairs(&info.description),
        optimisation: optimisation(results, n),
        stops: stops(results),
        failures: failures(results),
        parameters: results.parameters.iter().map(parameter).collect(),
        parameter_figures: parameter_figures(results),
        fits: fit_figures(results),
        effects: results.random_effects.iter().map(effect).collect(),
        population: population(results),
        outliers,
        outliers_left_out,
        has_cells: !results.cells.is_empty(),
        health: pairs(&results.health),
        command: clean(&info.command),
        options: clean(&format!("{:#}", info.options)),
        inputs: info.inputs.iter().take(ROWS).map(|(path, hash)| (clean(path), clean(hash))).collect(),
        inputs_left_out: info.inputs.len().saturating_sub(ROWS),
        shrinkage_limit: format!("{:.0} %", 100.0 * SHRINKAGE_LIMIT),
    };
    page.render()
}

/// Text without characters that XML forbids; the template escapes the rest.
fn clean(text: &str) -> String {
    text.chars().map(allowed).collect()
}

fn sign(text: String) -> String {
    text.replace('-', "−")
}

fn pairs(items: &[(String, String)]) -> Vec<(String, String)> {
    items.iter().map(|(a, b)| (clean(a), clean(b))).collect()
}

fn limited(items: &[String]) -> Vec<String> {
    let mut out: Vec<String> = items.iter().take(ROWS).map(|w| clean(w)).collect();
    if items.len() > ROWS {
        out.push(format!("{} more in run.json", items.len() - ROWS));
    }
    out
}

fn verdict(results: &RunResults, n: StartCounts) -> (String, bool) {
    let value = sign(objective(results.objective.nllh, 3));
    let name = results.objective.name();
    if n.total == 0 {
        return (format!("No optimisation was run: {name} is {value} at the given parameters."), true);
    }
    if n.finite == 0 {
        return (
            format!("None of the {} starts ended with a value of the objective: there is nothing to interpret below.", n.total),
            false,
        );
    }
    let mut text = format!(
        "The best {name} is {value}. {} of {} starts ended within {PLATEAU} of it, {} converged. ",
        n.plateau, n.total, n.converged
    );
    let best = results.fit.best().is_some_and(|s| s.stop.converged());
    let (words, good) = match (best, n.plateau) {
        (false, _) => ("The best start had not converged when it ended: the estimates are not an optimum.", false),
        (true, 1) if n.total > 1 => ("Only one start found this optimum: there may be better ones; more starts would tell.", false),
        (true, 1) => ("A single start says nothing about other optima.", false),
        (true, _) => ("Several starts from different points agree on the optimum.", true),
    };
    text.push_str(words);
    let bounds = results.parameters.iter().filter(|p| p.at_bound).count();
    if bounds > 0 {
        text.push_str(&format!(" {bounds} of {} parameters lie at a bound.", results.parameters.len()));
    }
    (text, good && bounds == 0)
}

fn numbers(results: &RunResults) -> Vec<(String, String)> {
    let (o, info) = (&results.objective, &results.info);
    let error = o.standard_error.map(|s| format!(" ± {}", typeset(s, 2))).unwrap_or_default();
    let mut rows = vec![(o.name().to_owned(), sign(objective(o.nllh, 3)))];
    if let Some(log_prior) = o.log_prior {
        rows.push(("−log L".to_owned(), sign(objective(-o.llh, 3))));
        rows.push(("−log prior".to_owned(), sign(objective(-log_prior, 3))));
    }
    rows.push((format!("−2 log L, {}", clean(&o.method)), format!("{}{error}", sign(objective(o.minus2ll, 2)))));
    rows.push(("AIC".to_owned(), sign(objective(o.aic, 2))));
    rows.push((format!("BIC, n = {}", clean(&o.bic_n)), sign(objective(o.bic, 2))));
    rows.push(("parameters".to_owned(), o.n_parameters.to_string()));
    rows.push(("measurements".to_owned(), o.n_data.to_string()));
    if o.n_individuals > 0 {
        rows.push(("individuals".to_owned(), o.n_individuals.to_string()));
    }
    rows.push(("time".to_owned(), seconds(info.seconds)));
    rows.push(("threads, seed".to_owned(), format!("{}, {}", info.threads, info.seed)));
    rows
}

fn optimisation(results: &RunResults, n: StartCounts) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(drawing) = waterfall::waterfall(results) {
        figures.push(Figure {
            question: "Do several starts find the same optimum?".to_owned(),
            how: format!(
                "Final objective of each start, sorted, as difference to the best on a logarithmic axis (differences below {} are drawn \
                 there). A long flat step at the left means that the optimum is found again and again; the shape says why a start ended.",
                typeset(waterfall::FLOOR, 2)
            ),
            table: "starts.tsv",
            class: "wide",
            drawings: vec![drawing],
        });
    }
    if let Some(drawing) = trace::trace(results) {
        let which = if n.finite > trace::LIMIT { format!("The {} best starts of {}. ", trace::LIMIT, n.finite) } else { String::new() };
        figures.push(Figure {
            question: "Had the starts come to rest?".to_owned(),
            how: format!(
                "{which}Objective after each iteration as difference to the best. A line that still falls where it ends was cut short."
            ),
            table: "trace.tsv",
            class: "wide",
            drawings: vec![drawing],
        });
    }
    figures
}

fn stops(results: &RunResults) -> Vec<(String, usize)> {
    let mut rows: indexmap::IndexMap<&str, usize> = indexmap::IndexMap::new();
    for s in &results.fit.starts {
        *rows.entry(tables::stop(&s.stop)).or_default() += 1;
    }
    rows.sort_by(|a, x, b, y| y.cmp(x).then(a.cmp(b)));
    rows.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn failures(results: &RunResults) -> Vec<(String, usize)> {
    let mut rows: indexmap::IndexMap<&str, usize> = indexmap::IndexMap::new();
    for s in &results.fit.starts {
        if let crate::estimate::StopReason::Failed(message) = &s.stop {
            *rows.entry(message).or_default() += 1;
        }
    }
    rows.sort_by(|a, x, b, y| y.cmp(x).then(a.cmp(b)));
    rows.into_iter().take(10).map(|(message, count)| (clean(&super::svg::shorten(message, 300)), count)).collect()
}

fn parameter(p: &super::ParameterRow) -> Parameter {
    let optional = |v: Option<f64>, digits| v.map_or_else(|| "–".to_owned(), |v| typeset(v, digits));
    let interval = match (p.lower95, p.upper95) {
        (Some(a), Some(b)) => format!("{} … {}", typeset(a, 3), typeset(b, 3)),
        _ => "–".to_owned(),
    };
    Parameter {
        id: clean(&p.id),
        scale: tables::scale(p.scale),
        cells: vec![
            typeset(p.estimate, 4),
            optional(p.standard_error, 3),
            p.rse.map_or_else(|| "–".to_owned(), |r| format!("{} %", typeset(100.0 * r, 2))),
            interval,
            format!("{} … {}", typeset(p.lower_bound, 3), typeset(p.upper_bound, 3)),
            optional(p.nominal, 4),
        ],
        bar: parameters::bar(p).unwrap_or_default(),
        at_bound: p.at_bound,
    }
}

fn parameter_figures(results: &RunResults) -> Vec<Figure> {
    let left_out = results.parameters.len().saturating_sub(parameters::LIMIT);
    let rest = if left_out > 0 { format!(" {left_out} parameters are left out; all are in the table.") } else { String::new() };
    let figure = parameters::parallel(results).map(|drawing| Figure {
        question: "Do the best starts agree on the parameters?".to_owned(),
        how: format!(
            "Each line is one of the {} best starts, the strong one the best; a row shows where the estimate lies between its bounds on \
             the estimation scale. Lines that part where the objective is the same point to parameters that the data do not determine.{rest}",
            parameters::STARTS
        ),
        table: "starts.tsv",
        class: "wide",
        drawings: vec![drawing],
    });
    figure.into_iter().collect()
}

fn fit_figures(results: &RunResults) -> Vec<Figure> {
    let fits = fits::fits(results);
    let mut figures = Vec::new();
    let n = fits.groups.len();
    for group in fits.groups {
        let some =
            if group.shown < group.cells { format!("{} of {} cells, evenly chosen. ", group.shown, group.cells) } else { String::new() };
        figures.push(Figure {
            question: format!("Does the model spread as the cells do? {}", clean(&group.title)),
            how: format!(
                "{some}Every line is a cell: measured at the left, the model with the cell's own parameters at the right, same scales."
            ),
            table: "simulations.tsv",
            class: "wide",
            drawings: vec![group.spaghetti],
        });
        let which = if group.cells > 9 { "The three cells with the smallest, middle and largest −log L per row. " } else { "" };
        figures.push(Figure {
            question: format!("How well are single cells described? {}", clean(&group.title)),
            how: format!(
                "{which}Dots are data, the line is the model, the band one σ of the noise to either side. All panels share their scales."
            ),
            table: "simulations.tsv",
            class: "panels",
            drawings: group.panels,
        });
    }
    if fits.n_groups > n
        && let Some(last) = figures.last_mut()
    {
        last.how.push_str(&format!(" {} further groups of trajectories are left out; the table has them all.", fits.n_groups - n));
    }
    if !results.plots.is_empty() {
        let rest = results.plots.len().saturating_sub(plots::FIGURES);
        let some = if rest > 0 { format!(" {rest} further figures are left out.") } else { String::new() };
        figures.push(Figure {
            question: "Does the model describe the data, figure by figure of the problem's visualization table?".to_owned(),
            how: format!(
                "Marks are measurements or their means, with the error bars that the table asks for; lines are the model, in bar charts across \
                 the bars. ∞ is the steady state.{some}"
            ),
            table: "simulations.tsv",
            class: "panels",
            drawings: results.plots.iter().take(plots::FIGURES).map(plots::figure).collect(),
        });
    }
    if !fits.panels.is_empty() {
        let some = match fits.n_panels - fits.panels.len() {
            0 => String::new(),
            rest => format!("The {} panels that fit worst; {rest} more are left out, the table has them all. ", fits.panels.len()),
        };
        figures.push(Figure {
            question: format!(
                "Does the model describe each observable in each experiment{}?",
                if results.plots.is_empty() { "" } else { " that no figure above shows" }
            ),
            how: format!(
                "{some}Dots are data, the line is the model, the band one σ of the noise to either side. About two thirds of the dots \
                 should lie in the band; ∞ is the steady state."
            ),
            table: "simulations.tsv",
            class: "panels",
            drawings: fits.panels,
        });
    }
    if let Some((drawing, count)) = residuals::residuals(results) {
        let some =
            if count > residuals::LIMIT { format!("{} of {count} measurements, evenly chosen. ", residuals::LIMIT) } else { String::new() };
        figures.push(Figure {
            question: "Is what remains mere noise?".to_owned(),
            how: format!(
                "{some}Measured minus simulated in units of σ. At the left no trend should be seen and about 95 % lie in the band; at the \
                 right dots on the line mean that the noise is normal with the σ of the model."
            ),
            table: "simulations.tsv",
            class: "wide",
            drawings: vec![drawing],
        });
    }
    figures
}

fn effect(e: &super::RandomEffectRow) -> Effect {
    let flagged = e.shrinkage.is_some_and(|s| s > SHRINKAGE_LIMIT);
    let cv = e.cv_percent.map_or_else(|| "–".to_owned(), |c| format!("{} %", typeset(c, 3)));
    let shrinkage = e.shrinkage.map_or_else(|| "–".to_owned(), |s| format!("{:.0} %{}", 100.0 * s, if flagged { " !" } else { "" }));
    Effect { cells: [clean(&e.id), clean(&e.target), typeset(e.sd, 3), cv, shrinkage], flagged }
}

fn population(results: &RunResults) -> Vec<Figure> {
    let (panels, left_out) = etas::etas(results);
    if panels.is_empty() {
        return Vec::new();
    }
    let rest = if left_out > 0 { format!(" {left_out} effects are left out; the table has them all.") } else { String::new() };
    vec![Figure {
        question: "Are the cells distributed as the model says?".to_owned(),
        how: format!(
            "Empirical Bayes estimates of the cells (bars) and the fitted normal distribution (line), in numbers of cells. Bars narrower \
             than the line show shrinkage; several humps or long tails speak against the normal distribution.{rest}"
        ),
        table: "cells.tsv",
        class: "panels",
        drawings: panels,
    }]
}

/// Cells with an effect beyond three standard deviations or without a proper estimate, and how many are left out.
fn outliers(results: &RunResults) -> (Vec<[String; 4]>, usize) {
    let mut rows = Vec::new();
    for c in &results.cells {
        let mut reasons = Vec::new();
        if c.status != "ok" {
            reasons.push(clean(&c.status));
        }
        for (id, value) in results.effect_ids.iter().zip(&c.ebe) {
            let sd = results.random_effects.iter().find(|e| e.id == *id).map(|e| e.sd);
            if let (Some(v), Some(sd)) = (value, sd)
                && sd > 0.0
                && v.abs() > 3.0 * sd
            {
                reasons.push(format!("{} at {} SD", clean(id), typeset(v / sd, 2)));
            }
        }
        if !reasons.is_empty() {
            rows.push([clean(&c.experiment), clean(&c.cell), sign(objective(c.nll, 2)), reasons.join("; ")]);
        }
    }
    let left_out = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    (rows, left_out)
}
