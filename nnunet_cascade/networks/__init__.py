"""What the trainers' networks are made of."""
