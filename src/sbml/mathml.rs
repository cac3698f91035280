//! MathML to [`crate::expr::Ast`].
