//! A soft weight that fades as a student passes its teacher.

/// What a soft weight is multiplied by, from a student's and its teacher's held-out loss, in nats: 1 as long as the
/// student is no better than its teacher, 0 once it is `width` nats better, linear in between. Chosen here.
pub fn faded(student: f64, teacher: f64, width: f64) -> f64 {
    (1.0 - (teacher - student) / width).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_fades_between_the_teacher_and_a_width_below_it() {
        let found: Vec<f64> = [6.0, 4.0, 3.75, 3.5, 3.0].map(|student| faded(student, 4.0, 0.5)).to_vec();
        assert_eq!(found, [1.0, 1.0, 0.5, 0.0, 0.0]);
    }
}
