"""Other libraries' backbones under our contract, and ours under theirs."""
