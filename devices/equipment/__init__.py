"""Equipment: one role that recipes know, built from several instruments that a lab can buy."""
