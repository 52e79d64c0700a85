//! The MDA: from recipients to a delivery plan, from a plan to one store transaction.
