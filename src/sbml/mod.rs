//! SBML files as they stand: no evaluation and no guessing beyond the defaults of each level; only composed models are flattened.
//!
//! [`read`] turns the text of a document of level 1 version 1 to level 3 version 2 into a [`Model`]. `xml` gives access to
//! elements and attributes with their places, `mathml` (level 1: `infix`) makes formulas, `check` looks at what must hold
//! between the parts. [`lint`] says more about a model than reading it needs, above all about units (`units`, `unit_check`).
//! `comp` flattens hierarchical models, `fbc` reads objectives of flux balance, `determination` finds what algebraic rules determine.
//! To add a construct, edit `model.rs` and `read.rs`, and its names in `xml.rs`.
//!
//! | Code | Meaning |
//! | --- | --- |
//! | S0001 | The file is not well-formed XML, or has a document type declaration. |
//! | S0002 | The file is not an SBML document. |
//! | S0003 | Level and version are unknown. |
//! | S0004 | The namespace contradicts level and version. |
//! | S0005 | The document has no model. |
//! | S0006 | An element of the SBML namespace stands where it cannot. |
//! | S0007 | A required attribute is missing. |
//! | S0008 | An attribute does not hold an identifier. |
//! | S0009 | An attribute does not hold a number. |
//! | S0010 | An attribute is neither true nor false. |
//! | S0011 | An element has more than one formula. |
//! | S0012 | An event has no trigger. |
//! | S0101 | An identifier is used twice. |
//! | S0102 | A species or reaction is placed in an unknown compartment. |
//! | S0103 | A reaction refers to an unknown species. |
//! | S0104 | A rule, initial assignment or event sets something that does not exist or has no value. |
//! | S0105 | A variable is set twice by rules and initial assignments. |
//! | S0106 | A rule or event sets something constant. |
//! | S0107 | A reaction changes a species that is constant or set by a rule. |
//! | S0108 | A function calls itself. |
//! | S0109 | A species has both an initial amount and an initial concentration. |
//! | S0110 | A formula uses an undefined symbol. |
//! | S0111 | A function is called with a wrong number of arguments. |
//! | S0112 | A formula calls an unknown function. |
//! | S0113 | An event sets what an assignment rule sets. |
//! | S0114 | An event sets a variable twice. |
//! | S0115 | A conversion factor is not a constant parameter. |
//! | S0116 | An algebraic rule has no variable left to determine: there are too many equations. |
//! | S0117 | Definitions need each other in a circle. |
//! | S0119 | A unit is defined twice. |
//! | S0120 | An attribute names a compartment or type that does not exist. |
//! | S0121 | A reaction has neither reactants nor products. |
//! | S0122 | The delay of an event is negative. |
//! | S0201 | An element cannot stand in a formula. |
//! | S0202 | An operator has a wrong number of arguments. |
//! | S0203 | A `cn` does not hold a number. |
//! | S0204 | A csymbol is unknown. |
//! | S0205 | A formula is nested too deeply. |
//! | S0206 | A `ci` does not hold an identifier. |
//! | S0207 | A formula is built wrongly: an element is empty, doubled or out of place. |
//! | S0208 | A formula string of level 1 cannot be read. |
//! | S0301 | A submodel or external model definition refers to an unknown model. |
//! | S0302 | A model contains itself. |
//! | S0303 | The file of an external model definition cannot be read. |
//! | S0304 | A reference into a submodel refers to nothing. |
//! | S0305 | A reference into a submodel does not say in exactly one way what it means. |
//! | S0306 | A reference goes on in something that is not a submodel. |
//! | S0307 | A model has too many submodels. |
//! | S0308 | Something in a submodel is replaced by two things. |
//! | S0401 | An objective or flux bound refers to an unknown reaction. |
//! | S0402 | A flux bound is not a parameter. |
//! | S0403 | An attribute of package fbc holds an unknown word. |
//! | S0404 | The active objective does not exist. |
//! | S0802 | Note: a package that does not change the meaning of the model is ignored. |
//! | S0803 | Warning: an attribute is unknown and ignored. |
//! | S0804 | Warning: a rule, kinetic law or function without formula is ignored. |
//! | S0805 | Warning: a stoichiometry is missing and taken as 1. |
//! | S0806 | Warning: a rate depends on a species that the reaction does not list. |
//! | S0807 | Note: a local parameter hides something of the same name. |
//! | S0808 | Warning: the trigger of an event is constant. |
//! | S0809 | Warning: units in a formula do not go together. |
//! | S0810 | Warning: a formula has another unit than what it sets. |
//! | S0811 | Warning: a unit is not defined. |
//! | S0905 | Not supported yet: packages that change the meaning of the model. |
//! | S0906 | Not supported yet: user-defined constraints and quadratic objectives of package fbc. |

mod check;
mod comp;
mod comp_files;
mod comp_names;
mod determination;
mod fbc;
mod infix;
mod lint;
mod mathml;
pub mod model;
mod read;
mod unit;
mod unit_check;
mod units;
mod xml;

pub use comp_files::{Load, beside};
pub use comp_names::rename;
pub use determination::determined_by_algebraic_rules;
pub use lint::lint;
pub use model::*;
pub use read::{read, read_with};
