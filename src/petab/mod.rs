//! PEtab problems of version 1 and 2, with the extension `nlme`, as plain data.
//!
//! Both versions are read into one [`Problem`]: a version 1 condition pair becomes an [`Experiment`] of one or two periods.
//!
//! [`read`] goes through the files in order, each step in its file: `files` (a folder or an archive), `yaml` and `problem_file`, `table` (tab-separated values),
//! `parameters`, `observables`, `experiments` (conditions, experiments), `statistics` (events and composite statistics of
//! `nlme`), `measurements` with `population` (columns of `nlme`), `random_effects`, `lint` (what concerns several tables), `visualization`. Nothing here knows the SBML model: whether the names in formulas exist is for the
//! room `model` to say. `write` puts simulations beside the data; `convert` turns version 1 into version 2.
//!
//! To add a column: its table's file, and the field in `problem`. To add a message: a free code in the table below, at one
//! place in the code (a test compares), and a case in `tests/diagnostics`.
//!
//! | code | meaning |
//! | --- | --- |
//! | P0002 | a file cannot be read |
//! | P0003 | a folder or archive has no problem file, or several |
//! | P0004 | the problem file is not valid YAML |
//! | P0005 | the problem file lacks a key |
//! | P0006 | a value in the problem file has the wrong form |
//! | P0007 | the problem file has an unknown key |
//! | P0008 | unknown format version |
//! | P0101 | a table is empty |
//! | P0102 | a table lacks a column |
//! | P0103 | two columns have the same name |
//! | P0104 | a row has more cells than the header |
//! | P0105 | a cell is not a number (or list of numbers) |
//! | P0106 | a required cell is empty |
//! | P0107 | a cell holds none of the words that are allowed |
//! | P0108 | not a valid identifier |
//! | P0109 | an identifier is defined twice |
//! | P0110 | a file is not UTF-8 |
//! | P0112 | a quoted cell is never closed |
//! | P0113 | an estimated parameter has no bounds |
//! | P0114 | a fixed parameter has no nominal value |
//! | P0115 | a lower bound is above the upper bound |
//! | P0116 | a logarithmic scale with negative bounds |
//! | P0117 | wrong number of prior parameters |
//! | P0118 | an identifier that is a word of formulas |
//! | P0119 | a condition table of the other version |
//! | P0121 | blanks around an identifier or the name of a column |
//! | P0122 | a negative nominal value on a logarithmic scale |
//! | P0127 | prior parameters outside their domain |
//! | P0128 | a prior that excludes all values between the bounds |
//! | P0202 | undefined experiment |
//! | P0203 | undefined observable |
//! | P0204 | undefined condition |
//! | P0205 | number of overrides and placeholders differ |
//! | P0206 | an override names an undefined parameter |
//! | P0208 | simultaneous changes of one target |
//! | P0209 | a measurement precedes its experiment |
//! | P0210 | a parameter of the parameter table is also changed by a condition |
//! | P0211 | a period starts at infinite time |
//! | P0212 | one identifier for two things |
//! | P0213 | a placeholder is also a parameter |
//! | P0214 | undefined model |
//! | P0215 | values that are not positive under logarithmic noise |
//! | P0216 | an experiment names a condition twice at one time |
//! | P0217 | a measurement of a problem with several models names none |
//! | P0302 | a formula cannot be read |
//! | P0303 | placeholders of version 1 are not numbered without gaps |
//! | P0306 | a change of the first period uses what has no value yet |
//! | P0307 | a formula uses an observable |
//! | P0308 | a noise formula that is a number, and not a positive one |
//! | P0401 | unsupported version of the extension |
//! | P0403 | a row needs an individual |
//! | P0404 | a row about the population names an individual |
//! | P0405 | undefined event |
//! | P0406 | undefined random effect |
//! | P0407 | undefined parameter in a table of the extension |
//! | P0408 | a random effect has no variance |
//! | P0409 | an individual is in two experiments |
//! | P0410 | an individual has rows over time and snapshot rows |
//! | P0411 | undefined statistic |
//! | P0412 | the observable of an event time is not `time` |
//! | P0413 | the precision of a statistic is not known |
//! | P0414 | rows of an individual have different weights |
//! | P0415 | the covariance is not positive definite |
//! | P0416 | interval censoring without an upper end |
//! | P0417 | undefined observable in a statistic |
//! | P0418 | a composite statistic has a built-in name |
//! | P0419 | wrong arguments of a population functional |
//! | P0420 | a nominal value outside the domain of a transformation |
//! | P0421 | a kind of covariance entry that does not fit |
//! | P0422 | a statistic of the population is censored |
//! | P0423 | a snapshot row of several individuals names one |
//! | P0424 | an event has a trigger and a hazard, or neither |
//! | P0425 | an individual is in two groups |
//! | P0426 | an individual is in no group |
//! | P0427 | probabilities of subpopulations that do not sum to one |
//! | P0501 | warning: measurements without a value are left out |
//! | P0502 | warning: blanks around values |
//! | P0503 | warning: a column of the other version has no effect |
//! | P0504 | warning: `noiseParameters` without placeholder |
//! | P0505 | warning: an unknown extension is ignored |
//! | P0506 | warning: unused conditions |
//! | P0509 | warning: a nominal value outside the bounds |
//! | P0510 | warning: a lower bound 0 on a logarithmic scale |
//! | P0511 | warning: columns of `nlme` in a problem that does not name it |
//! | P0512 | warning: time and measurement of an event differ |
//! | P0513 | warning: weighted rows |
//! | P0514 | warning: unused experiments |
//! | P0515 | warning: unknown hint value |
//! | P0516 | warning: unknown hint |
//! | P0517 | warning: a declared placeholder is not used |
//! | P0519 | warning: observables without measurements |
//! | P0520 | warning: no measurements |
//! | P0521 | warning: the visualization table shows what is not defined |
//! | P0522 | warning: direction or occurrence of an event with a hazard |
//! | P0901 | valid, but not supported |
//! | P0902 | a required extension is not supported |
//!

pub mod convert;
mod experiments;
mod files;
mod formula;
mod lint;
mod measurements;
mod models;
mod observables;
mod parameters;
mod population;
mod priors;
pub mod problem;
mod problem_file;
mod random_effects;
mod read;
mod statistics;
mod subpopulations;
mod synthetic;
pub mod table;
mod visualization;
mod write;

pub use synthetic::{SyntheticRow, with_data};
pub use write::{write_parameters, write_simulations};
mod yaml;

pub use files::{InputFile, is_problem};
pub use problem::*;
pub use read::{read, read_what_is_there};
pub use visualization::{DataType, Dataset, Plot, PlotScale, PlotType};

use crate::diag::{Diagnostic, Span};

/// Something that PEtab allows and this version cannot do.
fn unsupported(span: &Span, construct: &str, help: &str) -> Diagnostic {
    Diagnostic::error("P0901", format!("{construct} is not supported")).at(span, "valid PEtab, but not possible here yet").help(help)
}
