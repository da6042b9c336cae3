"""Branch plans: which heads share which stage of the neck; drawn, priced and searched for."""
