//! Why a simulation failed, with cause and cure.

/// A numerical failure at one point of the parameter space.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[allow(missing_docs)]
pub enum SimulationError {
    #[error("the simulation stopped at t = {time}: {steps} steps were not enough")]
    StepLimit { time: f64, steps: usize },
    #[error("the simulation stopped at t = {time}: the step size became too small{}; the state may run away there, or an absolute tolerance below its rounding errors asks for too much", state.as_ref().map(|s| format!(" (state `{s}`)")).unwrap_or_default())]
    StepTooSmall { time: f64, state: Option<String> },
    #[error("`{what}` is not a finite number at t = {time}")]
    NonFinite { time: f64, what: String },
    #[error("the switching time of `{switch}` has no derivative at t = {time}: it only touches its threshold")]
    Grazing { time: f64, switch: String },
    #[error(
        "the algebraic rules or equilibria of fast reactions have no solution near the values at t = {time}; a model that calls ordinary reactions fast has none, since all their rates would have to be 0"
    )]
    Invariant { time: f64 },
    #[error(
        "no steady state was reached: at t = {time}{} after {steps} steps. The model may oscillate, drift, or be driven by time there; inputs that depend on time must be off in a pre-equilibration. Else allow more steps or looser steady-state tolerances", rate.as_ref().map(|(state, rate)| format!(" d({state})/dt is still {rate:.3e}")).unwrap_or_default()
    )]
    SteadyState { time: f64, steps: usize, rate: Option<(String, f64)> },
    #[error("event `{event}` is executed again and again at t = {time}: its assignments trigger it anew")]
    EventLoop { time: f64, event: String },
    #[error("event `{event}` has a delay of {delay} at t = {time}, which is no length of time")]
    Delay { time: f64, event: String, delay: f64 },
    #[error("{what} is not supported yet")]
    Unsupported { what: String },
    #[error("SUNDIALS `{function}` failed with flag {flag} at t = {time}")]
    Solver { function: &'static str, flag: i32, time: f64 },
}
