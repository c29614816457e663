"""From a coarse tumor mask to candidates, the lungs they lie in, and the rules that choose among them."""
