//! Small dense linear algebra that nalgebra lacks.
