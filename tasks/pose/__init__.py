"""Human pose: the joints of a person."""
