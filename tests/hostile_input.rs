//! Input made to break a reader: every case must end soon with a model or with messages, never with a panic or with all memory gone.
//!
//! Everything here is deterministic. The folder `fuzz/` looks for further cases with random input; what it finds comes here.

#![allow(clippy::unwrap_used)]

use mixode::diag::{Diagnostics, Source};
use mixode::jit::Backend;
use mixode::model::{self, CompileOptions};
use mixode::sbml;
use std::fmt::Write as _;

const MATH: &str = "xmlns=\"http://www.w3.org/1998/Math/MathML\"";

/// A small model with one of everything that is understood.
const MODEL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level2/version4" level="2" version="4">
<model id="m">
<listOfFunctionDefinitions><functionDefinition id="f"><math xmlns="http://www.w3.org/1998/Math/MathML"><lambda><bvar><ci>a</ci></bvar><apply><times/><cn>2</cn><ci>a</ci></apply></lambda></math></functionDefinition></listOfFunctionDefinitions>
<listOfCompartments><compartment id="c" size="1"/></listOfCompartments>
<listOfSpecies><species id="S" compartment="c" initialAmount="1"/><species id="T" compartment="c" initialConcentration="0"/></listOfSpecies>
<listOfParameters><parameter id="k" value="0.5"/><parameter id="r" value="1" constant="false"/><parameter id="q" constant="false"/></listOfParameters>
<listOfInitialAssignments><initialAssignment symbol="k"><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><ci>f</ci><cn type="e-notation">2<sep/>-1</cn></apply></math></initialAssignment></listOfInitialAssignments>
<listOfRules><assignmentRule variable="q"><math xmlns="http://www.w3.org/1998/Math/MathML"><piecewise><piece><ci>S</ci><apply><lt/><ci>S</ci><cn>0.5</cn></apply></piece><otherwise><cn>1</cn></otherwise></piecewise></math></assignmentRule>
<rateRule variable="r"><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><minus/><ci>q</ci></apply></math></rateRule></listOfRules>
<listOfReactions><reaction id="R" reversible="false"><listOfReactants><speciesReference species="S" stoichiometry="1"/></listOfReactants><listOfProducts><speciesReference species="T"/></listOfProducts><kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><times/><ci>k</ci><ci>S</ci></apply></math></kineticLaw></reaction></listOfReactions>
</model>
</sbml>
"#;

/// Reads, builds and compiles a model as far as this goes; the codes of the errors.
fn feed(text: &str) -> Vec<&'static str> {
    let mut diagnostics = Diagnostics::new();
    let read = sbml::read(&Source::new("hostile.xml", text), &mut diagnostics);
    if let Some(system) = read.and_then(|m| model::build(&m, None, 0.0, &mut diagnostics)) {
        let interpreted = CompileOptions { second: false, backend: Backend::Interpreter };
        assert!(model::compile(&system, interpreted).is_ok());
    }
    // Messages must be writable as well, whatever they quote.
    assert!(diagnostics.render(false).len() + diagnostics.concise().len() + diagnostics.to_json().to_string().len() > 0);
    diagnostics.items().iter().filter(|d| d.severity == mixode::diag::Severity::Error).map(|d| d.code).collect()
}

fn refused(text: &str) {
    assert!(!feed(text).is_empty(), "taken without an error: {}", text.chars().take(300).collect::<String>());
}

/// A model of parameters and whatever stands after them.
fn document(parameters: &str, rest: &str) -> String {
    format!(
        "<sbml xmlns=\"http://www.sbml.org/sbml/level3/version1/core\" level=\"3\" version=\"1\"><model><listOfParameters>{parameters}</listOfParameters>{rest}</model></sbml>"
    )
}

/// A model with one assignment rule, for `x`, of the given MathML.
fn rule(math: &str) -> String {
    let parameters = "<parameter id=\"x\" constant=\"false\"/><parameter id=\"y\" value=\"1\" constant=\"false\"/>";
    document(parameters, &format!("<listOfRules><assignmentRule variable=\"x\"><math {MATH}>{math}</math></assignmentRule></listOfRules>"))
}

#[test]
fn the_model_itself_is_right() {
    assert_eq!(feed(MODEL), Vec::<&str>::new());
}

#[test]
fn deep_nesting() {
    let nested = |n: usize, open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for depth in [10, 100_000] {
        let taken = [
            rule(&nested(depth, "<apply><minus/>", "<ci>y</ci>", "</apply>")),
            rule(&nested(depth, "<apply><plus/><ci>y</ci>", "<cn>1</cn>", "</apply>")),
            rule(&nested(
                depth,
                "<piecewise><piece><cn>1</cn><apply><lt/><ci>y</ci><cn>2</cn></apply></piece><otherwise>",
                "<cn>1</cn>",
                "</otherwise></piecewise>",
            )),
        ];
        for text in taken {
            let errors = feed(&text);
            assert_eq!(errors.is_empty(), depth == 10, "{depth}: {errors:?}");
        }
    }
    // Notes are not looked into.
    assert_eq!(feed(&document(&nested(100_000, "<notes>", "deep", "</notes>"), "")), Vec::<&str>::new());
    refused(&"<a>".repeat(100_000));
    refused(&format!("<sbml{}>", " a".repeat(100_000)));
    // Level 1 has formulas as text.
    let level1 = |formula: &str| {
        format!(
            "<sbml xmlns=\"http://www.sbml.org/sbml/level1\" level=\"1\" version=\"2\"><model><listOfCompartments><compartment name=\"c\" volume=\"1\"/></listOfCompartments><listOfParameters><parameter name=\"x\" value=\"1\"/></listOfParameters><listOfRules><parameterRule name=\"x\" type=\"rate\" formula=\"{formula}\"/></listOfRules></model></sbml>"
        )
    };
    assert_eq!(feed(&level1("((x))+1")), Vec::<&str>::new());
    for formula in
        [nested(100_000, "(", "x", ")"), nested(100_000, "-", "x", ""), nested(100_000, "exp(", "x", ")"), nested(100_000, "x^", "x", "")]
    {
        refused(&level1(&formula));
    }
    // Long is not deep.
    let long: String = "<ci>y</ci>".repeat(100_000);
    assert_eq!(feed(&rule(&format!("<apply><plus/>{long}</apply>"))), Vec::<&str>::new());
}

/// Rules, initial assignments and functions, `n` of each, that refer to the next one: the depth is that of the references, not of the
/// text.
fn chains(n: usize) -> [String; 3] {
    let (mut parameters, mut rules, mut functions) = (String::new(), String::new(), String::new());
    for i in 0..n {
        let (next, body) = if i + 1 < n {
            (format!("<ci>p{}</ci>", i + 1), format!("<apply><ci>f{}</ci><ci>a</ci></apply>", i + 1))
        } else {
            let time = "<csymbol encoding=\"text\" definitionURL=\"http://www.sbml.org/sbml/symbols/time\">t</csymbol>";
            (time.to_owned(), "<ci>a</ci>".to_owned())
        };
        let _ = write!(parameters, "<parameter id=\"p{i}\" constant=\"false\"/>");
        let _ =
            write!(rules, "<assignmentRule variable=\"p{i}\"><math {MATH}><apply><plus/>{next}<cn>1</cn></apply></math></assignmentRule>");
        let _ = write!(
            functions,
            "<functionDefinition id=\"f{i}\"><math {MATH}><lambda><bvar><ci>a</ci></bvar>{body}</lambda></math></functionDefinition>"
        );
    }
    let assignments = rules.replace("assignmentRule", "initialAssignment").replace("variable=", "symbol=");
    let call = format!("<assignmentRule variable=\"p0\"><math {MATH}><apply><ci>f0</ci><cn>1</cn></apply></math></assignmentRule>");
    [
        document(&parameters, &format!("<listOfRules>{rules}</listOfRules>")),
        document(&parameters, &format!("<listOfInitialAssignments>{assignments}</listOfInitialAssignments>")),
        document(
            "<parameter id=\"p0\" constant=\"false\"/>",
            &format!("<listOfFunctionDefinitions>{functions}</listOfFunctionDefinitions><listOfRules>{call}</listOfRules>"),
        ),
    ]
}

#[test]
fn chains_of_references() {
    for text in chains(200) {
        assert_eq!(feed(&text), Vec::<&str>::new());
    }
}

#[test]
#[ignore = "lowering of chained formulas recurses without a limit: the stack overflows"]
fn long_chains_of_references() {
    for text in chains(20_000) {
        feed(&text);
    }
}

/// `n` functions, each of which calls the next one twice with different arguments: written out, the last formula has 2^n terms.
fn growing(n: usize) -> String {
    let mut functions = String::new();
    for i in 0..n {
        let next = i + 1;
        let body = format!(
            "<apply><times/><apply><ci>f{next}</ci><ci>a</ci></apply><apply><ci>f{next}</ci><apply><plus/><ci>a</ci><cn>1</cn></apply></apply></apply>"
        );
        let body = if next < n { body } else { "<ci>a</ci>".to_owned() };
        let _ = write!(
            functions,
            "<functionDefinition id=\"f{i}\"><math {MATH}><lambda><bvar><ci>a</ci></bvar>{body}</lambda></math></functionDefinition>"
        );
    }
    let parameters = "<parameter id=\"x\" constant=\"false\"/><parameter id=\"y\" value=\"1\" constant=\"false\"/>";
    let call = format!("<assignmentRule variable=\"x\"><math {MATH}><apply><ci>f0</ci><ci>y</ci></apply></math></assignmentRule>");
    document(parameters, &format!("<listOfFunctionDefinitions>{functions}</listOfFunctionDefinitions><listOfRules>{call}</listOfRules>"))
}

#[test]
fn functions_that_grow() {
    assert_eq!(feed(&growing(10)), Vec::<&str>::new());
}

#[test]
#[ignore = "calls of functions are written out without a limit: time grows as 2^n"]
fn functions_that_explode() {
    feed(&growing(60));
}

#[test]
fn entities_are_not_expanded() {
    let mut entities = "<!ENTITY e0 \"lol\">".to_owned();
    for i in 1..30 {
        let _ = write!(entities, "<!ENTITY e{i} \"{}\">", format!("&e{};", i - 1).repeat(10));
    }
    let bomb = MODEL.replacen("<sbml", &format!("<!DOCTYPE sbml [{entities}]>\n<sbml"), 1).replacen(
        "<model id=\"m\"",
        "<model id=\"m\" name=\"&e29;\"",
        1,
    );
    refused(&bomb);
    refused(&MODEL.replacen("<sbml", "<!DOCTYPE sbml SYSTEM \"file:///etc/passwd\">\n<sbml", 1));
    refused(&MODEL.replacen("<model id=\"m\">", "<model id=\"&unknown;\">", 1));
    refused(&MODEL.replacen("<model id=\"m\">", "<model id=\"m\" name=\"&#0;\">", 1));
}

#[test]
fn circles() {
    let lambda = |id: &str, other: &str| {
        format!(
            "<functionDefinition id=\"{id}\"><math {MATH}><lambda><bvar><ci>a</ci></bvar><apply><ci>{other}</ci><ci>a</ci></apply></lambda></math></functionDefinition>"
        )
    };
    for (f, g) in [("f", "f"), ("g", "f")] {
        let functions = lambda("f", f) + &lambda("g", g);
        refused(&document("", &format!("<listOfFunctionDefinitions>{functions}</listOfFunctionDefinitions>")));
    }
    refused(&document("", &format!("<listOfFunctionDefinitions>{}{}</listOfFunctionDefinitions>", lambda("f", "g"), lambda("g", "f"))));
    let set = |kind: &str, target: &str, variable: &str, other: &str| {
        format!("<{kind} {target}=\"{variable}\"><math {MATH}><apply><plus/><ci>{other}</ci><cn>1</cn></apply></math></{kind}>")
    };
    let parameters = "<parameter id=\"x\" constant=\"false\"/><parameter id=\"y\" constant=\"false\"/>";
    for (first, second) in [("x", "x"), ("y", "x")] {
        let rules = set("assignmentRule", "variable", "x", first) + &set("assignmentRule", "variable", "y", second);
        refused(&document(parameters, &format!("<listOfRules>{rules}</listOfRules>")));
        let assignments = set("initialAssignment", "symbol", "x", first) + &set("initialAssignment", "symbol", "y", second);
        refused(&document(parameters, &format!("<listOfInitialAssignments>{assignments}</listOfInitialAssignments>")));
    }
    // One of each kind.
    let mixed = format!(
        "<listOfInitialAssignments>{}</listOfInitialAssignments><listOfRules>{}</listOfRules>",
        set("initialAssignment", "symbol", "x", "y"),
        set("assignmentRule", "variable", "y", "x")
    );
    refused(&document(parameters, &mixed));
}

#[test]
fn numbers_at_the_ends() {
    let numbers = [
        "NaN",
        "INF",
        "-INF",
        "1e999",
        "-1e999",
        "1e-999",
        "-0",
        "0",
        "1e308",
        "-1",
        "",
        " ",
        "abc",
        "1e",
        "0x10",
        "1,5",
        "٣",
        "9999999999999999999999",
        "1e99999999999999999999",
        "infinity",
        "+5",
        "--5",
    ];
    let attributes: Vec<usize> =
        ["size=\"", "initialAmount=\"", "initialConcentration=\"", "value=\"", "stoichiometry=\"", "level=\"", "version=\""]
            .iter()
            .flat_map(|name| MODEL.match_indices(name).map(|(i, name)| i + name.len()).collect::<Vec<_>>())
            .collect();
    assert!(attributes.len() >= 8);
    for start in attributes {
        let end = start + MODEL[start..].find('"').unwrap();
        for number in numbers {
            feed(&format!("{}{number}{}", &MODEL[..start], &MODEL[end..]));
        }
        let digits = "9".repeat(100_000);
        feed(&format!("{}{digits}{}", &MODEL[..start], &MODEL[end..]));
    }
    for number in numbers {
        for cn in [
            format!("<cn>{number}</cn>"),
            format!("<cn type=\"integer\">{number}</cn>"),
            format!("<cn type=\"e-notation\">1<sep/>{number}</cn>"),
            format!("<cn type=\"e-notation\">{number}<sep/>{number}</cn>"),
            format!("<cn type=\"rational\">{number}<sep/>0</cn>"),
            format!("<cn type=\"integer\" base=\"{number}\">10</cn>"),
        ] {
            feed(&rule(&cn));
            feed(&rule(&format!("<apply><divide/><cn>1</cn>{cn}</apply>")));
            feed(&rule(&format!("<apply><power/>{cn}{cn}</apply>")));
            feed(&rule(&format!("<apply><factorial/>{cn}</apply>")));
            feed(&rule(&format!("<apply><root/><degree>{cn}</degree><ci>y</ci></apply>")));
        }
    }
    for name in ["notanumber", "infinity", "pi", "exponentiale", "true", "false"] {
        feed(&rule(&format!("<{name}/>")));
        feed(&rule(&format!("<apply><plus/><{name}/><ci>y</ci></apply>")));
    }
}

#[test]
fn many_things() {
    let mut species = String::new();
    for i in 0..5_000 {
        let _ = writeln!(
            species,
            "<species id=\"s{i}\" compartment=\"c\" initialAmount=\"1\" hasOnlySubstanceUnits=\"true\" boundaryCondition=\"true\" constant=\"true\"/>"
        );
    }
    let list = format!(
        "<listOfCompartments><compartment id=\"c\" size=\"1\" constant=\"true\"/></listOfCompartments><listOfSpecies>{species}</listOfSpecies>"
    );
    assert_eq!(feed(&document("", &list)), Vec::<&str>::new());
    // As many mistakes.
    refused(&document("", &list.replace("compartment=\"c\"", "compartment=\"d\"")));
    refused(&document("", &list.replace("id=\"s", "id=\"1")));
    refused(&document(&"<parameter id=\"p\" constant=\"true\"/>\n".repeat(5_000), ""));
    refused(&document(
        &format!("<parameter id=\"{}\" value=\"1\" constant=\"true\" wrong=\"\"/>", "p".repeat(1_000_000)),
        "<listOfNothing/>",
    ));
}

#[test]
fn cut_off_anywhere() {
    for end in (0..MODEL.len()).filter(|i| MODEL.is_char_boundary(*i)) {
        let text = &MODEL[..end];
        assert_eq!(feed(text).is_empty(), text.trim_end().ends_with("</sbml>"), "cut at {end}");
    }
    for start in 1..MODEL.len() {
        feed(&MODEL[start..]);
    }
}

#[test]
fn changed_anywhere() {
    let bytes = MODEL.as_bytes();
    let mut state = 20_240_501_u64;
    let mut random = |below: usize| {
        // Xorshift: nothing more is needed here, and it never changes.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let interesting = b"<>/\"'&; =-.0123456789eEabcsStT\n\0\xff\xc3";
    for _ in 0..20_000 {
        let mut text = bytes.to_vec();
        for _ in 0..1 + random(3) {
            let at = random(text.len());
            match random(5) {
                0 => text[at] ^= 1 << random(8),
                1 => text[at] = interesting[random(interesting.len())],
                2 => {
                    text.remove(at);
                }
                3 => {
                    // An element or a name is moved, which leaves the text well-formed more often than noise does.
                    let end = (at + 1 + random(40)).min(text.len());
                    let part = text[at..end].to_vec();
                    let to = random(text.len());
                    text.splice(to..to, part);
                }
                _ => {
                    let names: [&[u8]; 8] = [b"S", b"T", b"k", b"r", b"q", b"f", b"c", b"R"];
                    let (from, to) = (names[random(8)], names[random(8)]);
                    if text[at..].windows(3).next().is_some() {
                        let places: Vec<usize> = (1..text.len() - 1)
                            .filter(|i| {
                                &text[*i..*i + 1] == from && !text[i - 1].is_ascii_alphanumeric() && !text[i + 1].is_ascii_alphanumeric()
                            })
                            .collect();
                        if !places.is_empty() {
                            text[places[random(places.len())]] = to[0];
                        }
                    }
                }
            }
        }
        feed(&String::from_utf8_lossy(&text));
    }
}

#[test]
fn nothing_and_nonsense() {
    for text in [
        "",
        " ",
        "\n",
        "\u{feff}",
        "\0",
        "<",
        "<>",
        "<sbml",
        "<sbml/>",
        "<?xml?>",
        "text",
        "<!---->",
        "{}",
        "\u{10ffff}",
        "<sbml xmlns=\"http://www.sbml.org/sbml/level3/version1/core\" level=\"3\" version=\"1\"/>",
    ] {
        refused(text);
    }
}
